import sys
from typing import Any, ClassVar

import gymnasium as gym
import numpy as np
import pytest
from gymnasium import spaces

from snrl.runs.config import resolve
from snrl.runs.envs import make_envs
from snrl.runs.errors import ConfigError
from snrl.runs.hyperparameters import ALGORITHMS


class Switches(gym.Env[np.ndarray, np.ndarray]):
    metadata: ClassVar[dict[str, Any]] = {"render_modes": ["rgb_array"]}
    observation_space = spaces.Box(-1, 1, (1,))
    action_space = spaces.MultiBinary(3)


gym.register("Switches-v0", Switches, disable_env_checker=True)


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
        ("phys2d/Pendulum-v0", "needs jax: pip install jax"),
    ],
)
def test_tasks_that_cannot_be(env: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        make_envs(resolve("sac", {"env": env}))


@pytest.mark.parametrize(
    ("algo", "env", "message"),
    [
        *(
            (
                algo,
                "CartPole-v1",
                rf"^{algo} needs continuous actions \(a Box space\); "
                r"CartPole-v1 has Discrete\(2\), which dqn takes$",
            )
            for algo in ALGORITHMS
            if algo != "dqn"
        ),
        (
            "dqn",
            "Pendulum-v1",
            r"^dqn needs discrete actions \(a Discrete space\); Pendulum-v1 has "
            r"Box.*, which sac, td3, ddpg, tqc, crossq take$",
        ),
        ("sac", "Switches-v0", r"^sac needs continuous actions .* has MultiBinary\(3\)$"),
        ("dqn", "Switches-v0", r"^dqn needs discrete actions .* has MultiBinary\(3\)$"),
    ],
)
def test_actions_of_another_kind(algo: str, env: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        make_envs(resolve(algo, {"env": env}))


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
