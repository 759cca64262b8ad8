"""The callback on real models: training is untouched, and the numbers are there."""

import subprocess
import sys
from collections.abc import Callable
from typing import Any, ClassVar

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium import spaces
from sb3_contrib import QRDQN, TQC, CrossQ
from stable_baselines3 import DQN, SAC, TD3, HerReplayBuffer
from stable_baselines3.common.callbacks import EvalCallback
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.torch_layers import FlattenExtractor
from stable_baselines3.common.vec_env import VecNormalize
from torch import Tensor

import snrl
from snrl import ValueStabilityCallback
from snrl.values.keys import KEYS

from .states import assert_same, seeded, state
from .truths import ConstantReward, vectorised

TINY = {"learning_starts": 20, "batch_size": 16, "buffer_size": 500, "gamma": 0.9}
TINY |= {"seed": 0, "device": "cpu"}
SMALL = {"net_arch": [16, 16]}
ALWAYS = {
    *("q_mean", "q_std", "q_min", "q_max", "bias_mean", "bias_std", "bias_error", "return_mean"),
    *("overestimation_rate", "absolute_discrepancy", "td_error_heldout", "weight_norm"),
    *("grad_norm", "effective_lr", "churn_k", "churn_updates", "diverged"),
    *("time_share", "tail_weight"),
}
HEADS = {"dormant_0.025", "dormant_0.1", "srank", "numerical_rank", "stable_rank"}


class DoubleExtractor(FlattenExtractor):
    def forward(self, observations: Tensor) -> Tensor:
        return super().forward(observations.double())


def sac(policy: str = "MlpPolicy", env: Any = "Pendulum-v1", **kwargs: Any) -> SAC:
    policy_kwargs = SMALL | kwargs.pop("policy_kwargs", {})
    return SAC(policy, env, policy_kwargs=policy_kwargs, **(TINY | kwargs))


def td3(policy: str = "MlpPolicy", env: Any = "Pendulum-v1", **kwargs: Any) -> TD3:
    policy_kwargs = SMALL | kwargs.pop("policy_kwargs", {})
    return TD3(policy, env, policy_kwargs=policy_kwargs, **(TINY | kwargs))


def double() -> SAC:
    model = sac(policy_kwargs={"features_extractor_class": DoubleExtractor})
    model.policy.double()
    return model


def normalised() -> SAC:
    return sac(env=VecNormalize(make_vec_env("Pendulum-v1", 2, 0)))


def hindsight() -> SAC:
    return sac(
        "MultiInputPolicy",
        "Goals-v0",
        replay_buffer_class=HerReplayBuffer,
        policy_kwargs={"n_critics": 1},
    )


def pictures(**kwargs: Any) -> SAC:
    return sac("SNCnnPolicy", "Pictures-v0", **kwargs)


def tqc() -> TQC:
    return TQC("MlpPolicy", "Pendulum-v1", policy_kwargs=dict(SMALL), **TINY)


def dqn(**kwargs: Any) -> DQN:
    options = {"train_freq": 1, "target_update_interval": 30} | kwargs
    return DQN("MlpPolicy", "CartPole-v1", policy_kwargs=dict(SMALL), **(TINY | options))


def crossq() -> CrossQ:
    return CrossQ("MlpPolicy", "Pendulum-v1", policy_kwargs=dict(SMALL), **TINY)


MODELS: dict[str, tuple[Callable[[], Any], Any]] = {
    "sac": (sac, "Pendulum-v1"),
    "td3": (td3, "Pendulum-v1"),
    "sn": (lambda: sac("SNMlpPolicy"), "Pendulum-v1"),
    "sn smooth": (
        lambda: td3("SNMlpPolicy", policy_kwargs={"activation_fn": torch.nn.SiLU}),
        "Pendulum-v1",
    ),
    "pictures": (pictures, "Pictures-v0"),
    "shared extractor": (
        lambda: pictures(policy_kwargs={"share_features_extractor": True}),
        "Pictures-v0",
    ),
    "hindsight, one critic": (hindsight, "Goals-v0"),
    "ten critics": (lambda: sac(policy_kwargs={"n_critics": 10}), "Pendulum-v1"),
    "normalised, two environments": (normalised, "Pendulum-v1"),
    "double": (double, "Pendulum-v1"),
    "gsde": (lambda: sac(use_sde=True, train_freq=7), "Pendulum-v1"),
    "n steps, many updates": (
        lambda: sac(n_steps=3, train_freq=8, gradient_steps=8),
        "Pendulum-v1",
    ),
    "episodes": (
        lambda: td3(
            env="Pictures-v0", policy="CnnPolicy", train_freq=(1, "episode"), gradient_steps=2
        ),
        "Pictures-v0",
    ),
    "tqc": (tqc, "Pendulum-v1"),
    "crossq": (crossq, "Pendulum-v1"),
    "dqn": (dqn, "CartPole-v1"),
}
ONE_CRITIC = ("hindsight, one critic", "dqn")


@pytest.mark.parametrize("name", MODELS)
def test_training_is_the_same_and_the_numbers_are_there(name: str, log: Any) -> None:
    build, env = MODELS[name]
    seeded()
    plain = build()
    plain.learn(70)
    expected = state(plain)

    said: list[str] = []
    seeded()
    model = build()
    # Curvature and plasticity of convolutions take long; the shared extractor has them all.
    measures = "light" if name in ("pictures", "episodes") else "full"
    callback = ValueStabilityCallback(env, measures, 40, say=said.append)
    lines = log(model, 70, callback)
    assert_same(state(model), expected)

    measured = [line for line in lines if "values/q_mean" in line]
    assert len(measured) == 2
    last = {key.removeprefix("values/"): v for key, v in measured[-1].items() if "values/" in key}
    slope = "lipschitz_action" if name != "dqn" else "lipschitz_state"
    assert set(last) >= ALWAYS | HEADS | {slope}
    assert ("lipschitz_action" in last) == (name != "dqn")
    assert all(np.isfinite(value) for value in last.values())
    assert ("disagreement" in last) == (name not in ONE_CRITIC)
    assert ("target_drift" in last) == (name != "crossq")
    assert ("churn" in last) == (name not in ("n steps, many updates", "episodes"))
    assert ("geometry_action" in last) == (name == "sn smooth")
    assert last["diverged"] == 0
    # What does not apply is said once.
    assert len(said) == len(set(said))
    assert all(text.startswith("left out: ") for text in said)
    # The registry explains every key, those of layers by a pattern.
    known = {part for key in KEYS for part in key.names}
    assert {key if "/" not in key else key.split("/")[0] + "/…" for key in last} <= known
    callback.close()


def test_light_is_a_part_of_full(log: Any) -> None:
    light = log(sac(), 60, ValueStabilityCallback("Pendulum-v1", "light", 40))[-1]
    full = log(sac(), 60, ValueStabilityCallback("Pendulum-v1", "full", 40, say=print))[-1]
    assert {*light} < {*full}
    assert {*full} - {*light} >= {"values/curvature", "values/plasticity"}


def test_everything_is_as_reproducible_as_the_run(log: Any) -> None:
    first, second = (
        log(sac(), 60, ValueStabilityCallback("Pendulum-v1", "light", 40))[-1] for _ in range(2)
    )
    untimed = {key for key in first if "time" not in key}
    assert {key: first[key] for key in untimed} == {key: second[key] for key in untimed}


def test_the_moments_are_those_of_an_evaluation(log: Any) -> None:
    """With ``dump=False`` the numbers are in the line of the evaluation behind them."""
    evaluation = EvalCallback(
        make_vec_env("Pendulum-v1"), n_eval_episodes=1, eval_freq=30, verbose=0, warn=False
    )
    values = ValueStabilityCallback("Pendulum-v1", "light", 30, dump=False)
    lines = log(sac(), 70, [values, evaluation])
    together = [line["time/total_timesteps"] for line in lines if "values/q_mean" in line]
    assert together == [30, 60]
    assert all("eval/mean_reward" in line for line in lines)


def test_churn_is_that_of_the_updates(log: Any) -> None:
    """One update and ten, against the weights before and after them."""
    model = td3(policy_delay=1000)
    callback = ValueStabilityCallback("Pendulum-v1", "light", 60)
    weights: list[dict[str, Tensor]] = []
    references: list[Any] = []
    train = model.train

    def recorded(*args: Any, **kwargs: Any) -> None:
        before = {k: v.clone() for k, v in model.critic.state_dict().items()}
        train(*args, **kwargs)
        if callback._updates.is_watching:
            weights.append(before)
            references.append(callback._updates._reference)

    model.train = recorded  # type: ignore[method-assign]
    line = next(x for x in log(model, 70, callback) if "values/churn" in x)
    assert line["values/churn_updates"] == 10
    reference = references[0]
    values = []
    for state_dict in (weights[0], weights[1], weights[10]):
        model.critic.load_state_dict(state_dict)
        values.append(torch.stack(model.critic(reference.observations, reference.actions)))
    assert line["values/churn"] == pytest.approx((values[1] - values[0]).abs().mean().item())
    assert line["values/churn_k"] == pytest.approx((values[2] - values[0]).abs().mean().item())
    # Never in the replay buffer, so in no training batch.
    seen = model.replay_buffer.observations.reshape(-1, 3)
    new = reference.observations.numpy()
    assert not (new[:, None] == seen[None]).all(-1).any()


def test_histograms_go_to_writers_that_show_them(log: Any, tmp_path: Any) -> None:
    from stable_baselines3.common.logger import KVWriter, Logger

    class Writer(KVWriter):
        def __init__(self) -> None:
            self.rows: list[dict[str, Any]] = []

        def write(self, key_values: Any, key_excluded: Any, *_: Any) -> None:
            self.rows.append(
                {k: v for k, v in key_values.items() if "wandb" not in (key_excluded[k] or ())}
            )

    writer = Writer()
    model = sac("SNMlpPolicy")
    model.set_logger(Logger(str(tmp_path), [writer]))
    callback = ValueStabilityCallback("Pendulum-v1", "light", 40)
    model.learn(50, callback)
    row = next(row for row in writer.rows if "values/q_mean" in row)
    assert row["values/errors_histogram"].mean().item() == pytest.approx(
        row["values/bias_mean"], rel=1e-6
    )
    sigma = row["values/singular_values_histogram"]
    assert sigma.numel() == 2 * (4 + 16 + 1)
    hidden = np.sort(sigma.numpy())
    assert np.isclose(hidden, 1.0, atol=1e-3).sum() >= 2
    assert "values/errors_histogram" not in log(sac(), 50, callback)[-1]


def test_the_share_of_time(log: Any) -> None:
    lines = log(sac(), 60, ValueStabilityCallback("Pendulum-v1", "light", 30))
    shares = [line["values/time_share"] for line in lines if "values/q_mean" in line]
    assert all(0 < share < 1 for share in shares)


# --- divergence -----------------------------------------------------------------------------------


class Poisoned(gym.Wrapper[Any, Any, Any, Any]):
    """Pendulum-v1 with one reward replaced at its 45th step."""

    steps = 0

    def __init__(self, reward: float) -> None:
        super().__init__(gym.make("Pendulum-v1"))
        self.poison = reward

    def step(self, action: Any) -> Any:
        observation, reward, terminated, truncated, info = self.env.step(action)
        self.steps += 1
        poisoned = self.poison if self.steps == 45 else reward
        return observation, poisoned, terminated, truncated, info


@pytest.mark.parametrize("stop", [True, False])
@pytest.mark.parametrize("reward", [np.nan, np.inf, -np.inf])
def test_a_reward_that_is_not_finite(reward: float, stop: bool, log: Any) -> None:
    said: list[str] = []
    callback = ValueStabilityCallback(
        "Pendulum-v1", "light", 100, stop_on_divergence=stop, say=said.append
    )
    model = td3(env=Poisoned(reward), learning_starts=40)
    lines = log(model, 60, callback)
    assert callback.divergence is not None
    assert callback.divergence.timesteps == 45
    (line,) = [line for line in lines if line.get("values/diverged") == 1.0][:1]
    assert len(said) == 1
    assert said[0].startswith("diverged at step 45: ")
    assert model.num_timesteps == (45 if stop else 60)
    assert line["time/total_timesteps"] == 45


def test_weights_that_break_are_seen_at_the_update(log: Any) -> None:
    """NaN appears in an update: seen right after it, before the next step of the task."""
    model = td3(learning_starts=20)
    train = model.train

    def breaking(*args: Any, **kwargs: Any) -> None:
        if model.num_timesteps == 33:
            next(model.critic.parameters()).data.fill_(float("nan"))
        train(*args, **kwargs)

    model.train = breaking  # type: ignore[method-assign]
    callback = ValueStabilityCallback(
        "Pendulum-v1", "light", 100, stop_on_divergence=True, say=lambda _: None
    )
    log(model, 60, callback)
    assert callback.divergence is not None
    assert callback.divergence.timesteps == 33
    assert callback.divergence.reason == "critic loss is nan"
    assert model.num_timesteps == 34


def test_values_past_their_bound(log: Any) -> None:
    """Rewards of 1 and gamma 0.5 allow no value above 2."""

    def run(offset: float) -> Any:
        model = td3(env=vectorised(lambda: ConstantReward(1.0), None, n=1), gamma=0.5)
        for critic in (model.critic, model.critic_target):
            for network in critic.q_networks:
                network[-1].bias.data.fill_(offset)
        callback = ValueStabilityCallback(
            vectorised(lambda: ConstantReward(1.0), None, n=1), "light", 100, say=lambda _: None
        )
        log(model, 40, callback)
        return callback.divergence

    assert run(1.0) is None
    divergence = run(500.0)
    assert divergence.timesteps == 21
    assert "past its bound" in divergence.reason


# --- what does not serve --------------------------------------------------------------------------


def test_a_model_without_such_a_critic() -> None:
    model = QRDQN("MlpPolicy", "CartPole-v1", buffer_size=100, device="cpu")
    with pytest.raises(ValueError, match="QRDQN has no critic of state and action"):
        model.learn(5, ValueStabilityCallback("CartPole-v1"))


def test_an_unknown_set() -> None:
    with pytest.raises(ValueError, match="one of light, full, got 'heavy'"):
        sac().learn(5, ValueStabilityCallback("Pendulum-v1", "heavy"))


def test_it_is_exported_and_loads_no_tracker() -> None:
    assert snrl.ValueStabilityCallback is ValueStabilityCallback
    code = (
        "import sys, snrl.values; print([m for m in ('wandb', 'matplotlib.figure', 'sb3_contrib') "
    )
    code += "if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("freq", [0, -5])
def test_a_frequency_that_is_none(freq: int) -> None:
    with pytest.raises(ValueError, match=f"freq must be at least 1, got {freq}"):
        ValueStabilityCallback("Pendulum-v1", freq=freq)


class Careless(gym.Env[Any, Any]):
    """Draws from NumPy's global generator where it is made; its spaces are unusual."""

    metadata: ClassVar[dict[str, Any]] = {"render_modes": ["rgb_array"]}
    action_space = spaces.Box(-1, 1, (2, 2))

    def __init__(self) -> None:
        self.first = np.random.randint(5)
        self.observation_space = spaces.Dict(place=spaces.Discrete(5), box=spaces.Box(0, 1, (2, 2)))

    def reset(self, **kwargs: Any) -> Any:
        super().reset(**kwargs)
        self.place = self.first
        return self._see(), {}

    def step(self, action: Any) -> Any:
        self.place = (self.place + int(action[0, 0] > 0)) % 5
        return self._see(), float(self.place), False, False, {}

    def _see(self) -> Any:
        box = self.np_random.uniform(size=(2, 2)).astype(np.float32)
        return {"place": self.place, "box": box}


gym.register("Careless-v0", Careless, max_episode_steps=15, disable_env_checker=True)


def test_discrete_observations_actions_in_a_matrix_and_careless_making(log: Any) -> None:
    said: list[str] = []
    states = []
    for callback in (None, ValueStabilityCallback("Careless-v0", "full", 40, say=said.append)):
        seeded()
        model = sac("MultiInputPolicy", "Careless-v0")
        log(model, 70, callback)
        states.append(state(model))
    assert_same(*states)
    assert callback is not None
    assert callback.latest is not None
    assert callback.latest.values.keys() >= ALWAYS - {"diverged", "time_share"}
    assert "left out: lipschitz_state: observations are not continuous" in said
