import sys

import numpy as np
import pytest

from snrl.runs.config import resolve
from snrl.runs.envs import make_envs
from snrl.runs.errors import ConfigError


def test_training_and_evaluation_are_apart() -> None:
    env, eval_env = make_envs(resolve("sac", {"n_envs": 2}))
    assert (env.num_envs, eval_env.num_envs) == (2, 1)
    assert not np.isclose(env.reset(), eval_env.reset()).any()


@pytest.mark.parametrize(
    ("env", "message"),
    [
        ("Pendulum-v9", "unknown environment Pendulum-v9: did you mean Pendulum-v1?"),
        ("Pendulum", "unknown environment Pendulum: did you mean Pendulum-v1?"),
        ("nowhere:Task-v0", "No module named 'nowhere'"),
        ("CartPole-v1", r"sac needs continuous actions .*CartPole-v1 has Discrete\(2\)"),
        ("phys2d/Pendulum-v0", "needs jax: pip install jax"),
    ],
)
def test_tasks_that_cannot_be(env: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        make_envs(resolve("sac", {"env": env}))


@pytest.mark.parametrize(
    ("env", "module", "extra"),
    [("Hopper-v5", "mujoco", "mujoco"), ("LunarLanderContinuous-v3", "Box2D", "box2d")],
)
def test_a_missing_module_names_its_extra(
    env: str, module: str, extra: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in [n for n in sys.modules if n.startswith(("gymnasium.envs.mujoco", "mujoco"))]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ConfigError, match=rf'^{env} needs {module}: pip install "snrl\[{extra}\]"'):
        make_envs(resolve("sac", {"env": env}))
