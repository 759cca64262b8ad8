"""Names of algorithms, and what they lead to."""

import subprocess
import sys

import pytest

from snrl.algorithms import SOURCES, NotInstalledError, load_algorithm


@pytest.mark.parametrize("algo", SOURCES)
def test_each_is_there(algo: str) -> None:
    import snrl

    source = SOURCES[algo]
    stock = load_algorithm(algo)
    assert stock.__name__.lower() == algo
    assert stock.__module__.startswith(source.package)
    assert source.has_fast == hasattr(snrl, source.name)
    if source.has_fast:
        fast = load_algorithm(algo, fast=True)
        assert issubclass(fast, stock)
        assert fast.__module__.startswith("snrl.")


def test_what_is_missing_is_said_once_it_is_wanted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sb3_contrib", None)
    with pytest.raises(NotInstalledError, match=r'^tqc needs sb3-contrib: .* "snrl\[contrib\]"$'):
        load_algorithm("tqc")


def test_what_is_missing_within_a_package_is_no_missing_package(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in [name for name in sys.modules if name.split(".")[0] == "sb3_contrib"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "stable_baselines3.common.policies", None)
    with pytest.raises(ModuleNotFoundError, match=r"stable_baselines3\.common\.policies"):
        load_algorithm("tqc")


def test_others_do_not_load_contrib() -> None:
    code = "import sys; from snrl.algorithms import load_algorithm as load\n"
    code += "import snrl.runs.train; [load(name) for name in ('sac', 'td3', 'ddpg', 'dqn')]\n"
    code += "print('sb3_contrib' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
