"""Layers are counted from the output."""

import pytest

from snrl.spectral.selection import select_layers


@pytest.mark.parametrize(
    ("layers", "n_layers", "expected"),
    [
        ((-2,), 3, (1,)),
        ((-1,), 1, (0,)),
        ([-1, -3], 4, (1, 3)),
        ("hidden", 3, (1,)),
        ("hidden", 6, (1, 2, 3, 4)),
        ("all", 2, (0, 1)),
    ],
)
def test_positions(layers, n_layers, expected):
    assert select_layers(layers, n_layers) == expected


@pytest.mark.parametrize(
    ("layers", "n_layers", "message"),
    [
        ((-4,), 3, "layer -4 is outside the network: the network has 3 layers"),
        ((0,), 3, "negative integers"),
        ((1,), 3, "negative integers"),
        ((True,), 3, "negative integers"),
        ((-1.0,), 3, "negative integers"),
        ((-1, -1), 3, "once"),
        ((), 3, "got \\(\\)"),
        ("first", 3, "got 'first'"),
        (-2, 3, "got -2"),
        ("hidden", 2, "selects none: the network has 2 layers"),
        ((-2,), 1, "the network has 1 layer,"),
    ],
)
def test_bad_selections_say_what_was_expected(layers, n_layers, message):
    with pytest.raises(ValueError, match=message):
        select_layers(layers, n_layers)
