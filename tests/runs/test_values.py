import pytest

from snrl.runs import values
from snrl.runs.values import Kind, choice, integer, number


@pytest.mark.parametrize(
    ("kind", "raw", "read"),
    [
        (integer(1), 3, 3),
        (integer(1), "20_000", 20_000),
        (integer(1), "1e6", 1_000_000),
        (integer(-1), "-1", -1),
        (number(above=0), "1e-3", 1e-3),
        (number(above=0), 2, 2.0),
        (choice("a", "b"), "b", "b"),
        (values.BOOLEAN, True, True),
        (values.LEARNING_RATE, "lin_7.3e-4", "lin_7.3e-4"),
        (values.LEARNING_RATE, "3e-4", 3e-4),
        (values.ENT_COEF, "auto_0.1", "auto_0.1"),
        (values.ENT_COEF, 0.1, 0.1),
        (values.TARGET_ENTROPY, "auto", "auto"),
        (values.TARGET_ENTROPY, "-2", -2.0),
        (values.TRAIN_FREQ, 4, 4),
        (values.TRAIN_FREQ, ["4"], 4),
        (values.TRAIN_FREQ, ["4", "step"], 4),
        (values.TRAIN_FREQ, "1 episode", [1, "episode"]),
        (values.TRAIN_FREQ, [1, "episode"], [1, "episode"]),
        (values.NET_ARCH, [400, 300], [400, 300]),
        (values.NET_ARCH, ["400", "300"], [400, 300]),
        (values.NET_ARCH, ["qf=400,300", "pi=64"], {"pi": [64], "qf": [400, 300]}),
        (values.NET_ARCH, {"pi": [64], "qf": []}, {"pi": [64], "qf": []}),
        (values.VALUES, "full", "full"),
        # YAML's own reading of a plain off.
        (values.VALUES, False, "off"),
        (values.SN_LAYERS, ["-2", "-3"], [-2, -3]),
        (values.SN_LAYERS, -1, [-1]),
        (values.SN_LAYERS, ["hidden"], "hidden"),
        (values.SN_LAYERS, "all", "all"),
    ],
)
def test_reads(kind: Kind, raw: object, read: object) -> None:
    result = kind.read(raw)
    assert result == read
    assert type(result) is type(read)
    # config.yaml holds what was read, and is read again.
    assert kind.read(result) == read


@pytest.mark.parametrize(
    ("kind", "raw"),
    [
        (integer(1), 0),
        (integer(1), 2.5),
        (integer(1), True),
        (integer(1), "many"),
        (integer(0, 5), 6),
        (number(above=0), 0),
        (number(above=0), "nan"),
        (number(low=0, high=1), 1.1),
        (number(), [1.0]),
        (choice("a", "b"), "c"),
        (values.BOOLEAN, "yes"),
        (values.BOOLEAN, 1),
        (values.TEXT, ""),
        (values.TEXT, 3),
        (values.LEARNING_RATE, "lin_0"),
        (values.LEARNING_RATE, -1e-3),
        (values.ENT_COEF, "auto_0"),
        (values.ENT_COEF, "automatic"),
        (values.ENT_COEF, -0.1),
        (values.TARGET_ENTROPY, "low"),
        (values.TRAIN_FREQ, [1, "hour"]),
        (values.TRAIN_FREQ, 0),
        (values.TRAIN_FREQ, [1, 2, 3]),
        (values.NET_ARCH, 256),
        (values.NET_ARCH, [0]),
        (values.NET_ARCH, {"pi": [64]}),
        (values.NET_ARCH, ["pi=64"]),
        (values.NET_ARCH, "400"),
        (values.SN_LAYERS, [0]),
        (values.SN_LAYERS, []),
        (values.SN_LAYERS, "first"),
    ],
)
def test_refuses(kind: Kind, raw: object) -> None:
    with pytest.raises((TypeError, ValueError)):
        kind.read(raw)
