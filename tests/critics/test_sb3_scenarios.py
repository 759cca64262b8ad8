"""SB3's own test scenarios, with SN policies in place of the plain ones, for SAC and TD3.

Named after the subjects of SB3's test files: save and load, dict and image observations, HER, gSDE,
n-step replay, VecNormalize, predict, determinism, train and eval mode, custom policies, noise.
"""

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium import spaces
from stable_baselines3 import DDPG, SAC, TD3, HerReplayBuffer
from stable_baselines3.common.buffers import NStepReplayBuffer
from stable_baselines3.common.callbacks import CheckpointCallback
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.envs import BitFlippingEnv, FakeImageEnv, SimpleMultiObsEnv
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.noise import (
    NormalActionNoise,
    OrnsteinUhlenbeckActionNoise,
    VectorizedActionNoise,
)
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor
from stable_baselines3.common.vec_env import (
    DummyVecEnv,
    VecFrameStack,
    VecNormalize,
    VecTransposeImage,
    is_vecenv_wrapped,
)
from torch import Tensor, nn

import snrl

Make = Callable[..., Any]
ALGOS = ["sac", "td3"]
CLASSES = {"sac": SAC, "td3": TD3, "ddpg": DDPG}
KINDS = ["Mlp", "Cnn", "MultiInput"]
SN_POLICIES = {
    ("sac", "Mlp"): snrl.sac.MlpPolicy,
    ("sac", "Cnn"): snrl.sac.CnnPolicy,
    ("sac", "MultiInput"): snrl.sac.MultiInputPolicy,
    ("td3", "Mlp"): snrl.td3.MlpPolicy,
    ("td3", "Cnn"): snrl.td3.CnnPolicy,
    ("td3", "MultiInput"): snrl.td3.MultiInputPolicy,
}


def image_env(channel_first: bool = False) -> FakeImageEnv:
    return FakeImageEnv(
        discrete=False, screen_height=36, screen_width=36, channel_first=channel_first
    )


def dict_env(channel_last: bool = True) -> SimpleMultiObsEnv:
    return SimpleMultiObsEnv(discrete_actions=False, channel_last=channel_last)


def bit_env(image: bool = False) -> BitFlippingEnv:
    return BitFlippingEnv(n_bits=4, continuous=True, image_obs_space=image)


def of_kind(make: Make, algo: str, kind: str, prefix: str = "SN", **kwargs: Any) -> Any:
    """Make a model with a policy of that kind, on a task of that kind."""
    env: Any = {"Mlp": "Pendulum-v1", "Cnn": image_env(), "MultiInput": dict_env()}[kind]
    options = {
        "Mlp": {},
        "Cnn": {"features_extractor_kwargs": {"features_dim": 16}},
        "MultiInput": {"features_extractor_kwargs": {"cnn_output_dim": 16}},
    }[kind]
    kwargs["policy_kwargs"] = options | kwargs.get("policy_kwargs", {})
    size = 500 if kind == "Mlp" else 60
    return make(algo, f"{prefix}{kind}Policy", env, buffer_size=size, **kwargs)


def assert_same_state(one: Any, other: Any) -> None:
    expected, got = one.policy.state_dict(), other.policy.state_dict()
    assert expected.keys() == got.keys()
    for name, value in expected.items():
        assert torch.equal(value, got[name]), name


def optimised(model: Any) -> list[str]:
    """The parameters of the critic that its optimiser holds, by name."""
    names = {id(parameter): name for name, parameter in model.critic.named_parameters()}
    return [names[id(p)] for group in model.critic.optimizer.param_groups for p in group["params"]]


# --- Save and load --------------------------------------------------------------------------------


@pytest.mark.parametrize("algo", ALGOS)
@pytest.mark.parametrize("kind", KINDS)
def test_a_saved_model_loads_predicts_alike_and_learns_on(
    make: Make, algo: str, kind: str, tmp_path: Path, assert_normalised: Make
) -> None:
    model = of_kind(make, algo, kind, policy_kwargs={"sn_coef": 1.5}, tau=0.3, learn=32)
    model.save(tmp_path / "model.zip")
    model.save_replay_buffer(tmp_path / "buffer.pkl")
    loaded = CLASSES[algo].load(tmp_path / "model.zip", env=model.get_env(), device="cpu")
    assert type(loaded.policy) is type(model.policy)
    assert_same_state(model, loaded)
    assert_normalised(loaded, coef=1.5)
    obs = model.get_env().reset()
    np.testing.assert_array_equal(
        model.predict(obs, deterministic=True)[0], loaded.predict(obs, deterministic=True)[0]
    )
    loaded.load_replay_buffer(tmp_path / "buffer.pkl")
    assert loaded.replay_buffer.pos == model.replay_buffer.pos
    np.testing.assert_array_equal(loaded.replay_buffer.actions, model.replay_buffer.actions)
    before = loaded.num_timesteps
    loaded.learn(10, reset_num_timesteps=False)
    assert loaded.num_timesteps == before + 10
    assert_normalised(loaded, coef=1.5)


@pytest.mark.parametrize("algo", ALGOS)
def test_random_parameters_survive_save_and_load(
    make: Make, algo: str, tmp_path: Path, assert_normalised: Make
) -> None:
    model = make(algo, learn=25)
    parameters = model.get_parameters()
    parameters["policy"] = {
        name: torch.rand_like(value) if not name.startswith("spectral.") else value
        for name, value in parameters["policy"].items()
    }
    model.set_parameters(parameters)
    assert_normalised(model)
    for name, parameter in model.policy.named_parameters():
        assert torch.equal(parameter, parameters["policy"][name])
    model.save(tmp_path / "model.zip")
    loaded = CLASSES[algo].load(tmp_path / "model.zip", env=gym.make("Pendulum-v1"), device="cpu")
    assert_same_state(model, loaded)
    assert_normalised(loaded)
    loaded.learn(30)
    assert_normalised(loaded)


@pytest.mark.parametrize("algo", ALGOS)
def test_custom_objects_and_arguments_replace_what_was_saved(
    make: Make, algo: str, tmp_path: Path
) -> None:
    model = make(algo, verbose=0)
    model.save(tmp_path / "model.zip", exclude=["gamma"])
    objects = {"learning_rate": 2e-5, "dummy": 1.0}
    loaded = CLASSES[algo].load(
        tmp_path / "model.zip", custom_objects=objects, tau=0.5, device="cpu"
    )
    assert loaded.learning_rate == 2e-5
    assert loaded.tau == 0.5
    assert not hasattr(loaded, "dummy")
    assert loaded.gamma == 0.99
    for name in ("sn_layers", "sn_coef", "block_size"):
        assert loaded.policy.own_kwargs[name] == model.policy.own_kwargs[name]


@pytest.mark.parametrize("algo", ALGOS)
def test_parameters_are_gotten_and_set_as_in_sb3(
    make: Make, algo: str, assert_normalised: Make
) -> None:
    source, model = make(algo, learn=30), make(algo, seed=9)
    parameters = copy.deepcopy(source.get_parameters())
    assert parameters.keys() == make(algo, "MlpPolicy").get_parameters().keys()
    model.set_parameters(parameters)
    assert_same_state(source, model)
    assert_normalised(model)
    with pytest.raises(ValueError, match="do not match"):
        model.set_parameters({"policy": parameters["policy"]})
    with pytest.raises(ValueError, match="invalid object name"):
        model.set_parameters({"nothing": {}})
    del parameters["policy"]["critic.qf0.2.weight"]
    with pytest.raises(RuntimeError, match=r"critic\.qf0\.2\.weight"):
        model.set_parameters(parameters)
    other = make(algo, seed=9)
    other.set_parameters({"policy": parameters["policy"]}, exact_match=False)
    assert torch.equal(other.critic.qf1[2].weight, source.critic.qf1[2].weight)
    assert not torch.equal(other.critic.qf0[2].weight, source.critic.qf0[2].weight)
    assert_normalised(other)


@pytest.mark.parametrize("algo", ALGOS)
def test_training_continues_after_a_load_as_bit_identically_as_the_plain_one_does(
    make: Make, algo: str, tmp_path: Path
) -> None:
    def continued(model: Any) -> dict[str, Tensor]:
        model.set_env(make_vec_env("Pendulum-v1", 1))
        model.set_random_seed(7)
        model.learn(40, reset_num_timesteps=False)
        state = {k: v.clone() for k, v in model.policy.state_dict().items()}
        for name, moments in model.critic.optimizer.state_dict()["state"].items():
            state[f"moments {name}"] = moments["exp_avg"].clone()
        return state

    identical = {}
    for policy in ("MlpPolicy", "SNMlpPolicy"):
        model = make(algo, policy, learning_rate=1e-3, learn=60)
        model.save(tmp_path / "model.zip")
        model.save_replay_buffer(tmp_path / "buffer.pkl")
        loaded = CLASSES[algo].load(tmp_path / "model.zip", device="cpu")
        loaded.load_replay_buffer(tmp_path / "buffer.pkl")
        expected, got = continued(model), continued(loaded)
        assert expected.keys() == got.keys()
        identical[policy] = all(torch.equal(v, got[k]) for k, v in expected.items())
    assert identical["MlpPolicy"]
    assert identical["SNMlpPolicy"]


@pytest.mark.parametrize("algo", ALGOS)
@pytest.mark.parametrize("n_envs", [1, 2])
def test_another_environment_can_be_set(make: Make, algo: str, n_envs: int) -> None:
    model = make(algo, env=make_vec_env("Pendulum-v1", n_envs), learn=30)
    for env in (make_vec_env("Pendulum-v1", n_envs), make_vec_env("Pendulum-v1", n_envs, seed=1)):
        model.set_env(env)
        model.learn(10, reset_num_timesteps=False)
    if n_envs == 1:
        model.set_env(gym.make("Pendulum-v1"))
        model.learn(10, reset_num_timesteps=False)


@pytest.mark.parametrize("algo", ALGOS)
def test_checkpoints_of_sb3s_callback_load(
    make: Make, algo: str, tmp_path: Path, assert_normalised: Make
) -> None:
    callback = CheckpointCallback(20, tmp_path, save_replay_buffer=True, save_vecnormalize=True)
    make(algo).learn(40, callback=callback)
    loaded = CLASSES[algo].load(tmp_path / "rl_model_40_steps.zip", device="cpu")
    loaded.load_replay_buffer(tmp_path / "rl_model_replay_buffer_40_steps.pkl")
    assert loaded.replay_buffer.size() == 39  # SB3 calls back before it stores the transition.
    assert_normalised(loaded)


# --- Plain zips -----------------------------------------------------------------------------------


@pytest.mark.parametrize("algo", ALGOS)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("way", ["set_parameters", "load"])
def test_a_plain_zip_arrives_whole_in_an_sn_policy(
    make: Make, algo: str, kind: str, way: str, tmp_path: Path, assert_normalised: Make
) -> None:
    plain = of_kind(make, algo, kind, prefix="", tau=0.3, learning_rate=1e-3, learn=32)
    plain.save(tmp_path / "plain.zip")
    if way == "load":
        model = CLASSES[algo].load(
            tmp_path / "plain.zip",
            env=plain.get_env(),
            custom_objects={"policy_class": SN_POLICIES[algo, kind]},
            device="cpu",
        )
    else:
        model = of_kind(make, algo, kind, seed=11)
        model.set_parameters(tmp_path / "plain.zip", device="cpu")
    assert type(model.policy) is SN_POLICIES[algo, kind]
    expected, got = plain.policy.state_dict(), model.policy.state_dict()
    for name, value in expected.items():
        assert torch.equal(value, got[name]), name
    assert all(name.startswith("spectral.") for name in got.keys() - expected.keys())
    assert_normalised(model, rtol=1e-5)
    wanted = plain.critic.optimizer.state_dict()["state"]
    for key, moments in model.critic.optimizer.state_dict()["state"].items():
        assert torch.equal(moments["exp_avg"], wanted[key]["exp_avg"])
    obs = plain.get_env().reset()
    np.testing.assert_array_equal(
        plain.predict(obs, deterministic=True)[0], model.predict(obs, deterministic=True)[0]
    )
    model.learn(25)
    assert_normalised(model)


@pytest.mark.parametrize("algo", ALGOS)
@pytest.mark.parametrize("kind", ["Cnn", "MultiInput"])
def test_a_plain_zip_in_a_policy_of_another_kind_is_refused(
    make: Make, algo: str, kind: str, tmp_path: Path
) -> None:
    of_kind(make, algo, kind, prefix="").save(tmp_path / "plain.zip")
    with pytest.raises((RuntimeError, ValueError, TypeError)):
        CLASSES[algo].load(
            tmp_path / "plain.zip",
            custom_objects={"policy_class": SN_POLICIES[algo, "Mlp"]},
            device="cpu",
        )


@pytest.mark.parametrize("algo", ALGOS)
def test_raw_weights_are_refused_by_a_plain_policy_rather_than_taken_for_effective_ones(
    make: Make, algo: str
) -> None:
    with pytest.raises(RuntimeError, match="Unexpected key"):
        make(algo, "MlpPolicy").set_parameters(make(algo).get_parameters())


# --- Predict, determinism -------------------------------------------------------------------------


@pytest.mark.parametrize("algo", ALGOS)
@pytest.mark.parametrize("device", ["cpu", "auto"])
def test_predictions_have_the_shapes_of_sb3(make: Make, algo: str, device: str) -> None:
    model = make(algo, device=device)
    env, vec_env = gym.make("Pendulum-v1"), make_vec_env("Pendulum-v1", 3)
    action, _ = model.predict(env.reset()[0])
    assert env.action_space.contains(action)
    assert model.predict(vec_env.reset())[0].shape == (3, 1)
    obs = vec_env.reset()
    first = model.predict(obs, deterministic=True)[0]
    for _ in range(3):
        np.testing.assert_array_equal(model.predict(obs, deterministic=True)[0], first)
    with pytest.raises(ValueError, match="Unexpected observation shape"):
        model.predict(np.zeros((2, 7), dtype=np.float32))


@pytest.mark.parametrize("algo", [*ALGOS, "ddpg"])
def test_two_runs_of_one_seed_are_bit_identical(make: Make, algo: str) -> None:
    runs = []
    for _ in range(2):
        noise = NormalActionNoise(np.zeros(1), 0.1 * np.ones(1))
        model = make(algo, action_noise=noise, learn=70)
        obs, actions = model.get_env().reset(), []
        for _ in range(20):
            action, _ = model.predict(obs, deterministic=False)
            obs, *_ = model.get_env().step(action)
            actions.append(action)
        runs.append((model, np.concatenate(actions)))
    np.testing.assert_array_equal(runs[0][1], runs[1][1])
    assert_same_state(runs[0][0], runs[1][0])


# --- Dict observations ----------------------------------------------------------------------------


class VectorDictEnv(gym.Env[Any, Any]):
    """A dict with vectors alone, or with an image and a number as well; states are noise."""

    def __init__(self, vector_only: bool = False, nested: bool = False) -> None:
        parts: dict[str, Any] = {"vec": spaces.Box(-1, 1, (2,), np.float32)}
        if not vector_only:
            parts["img"] = spaces.Box(0, 255, (1, 36, 36), np.uint8)
            parts["discrete"] = spaces.Discrete(4)
        if nested:
            parts["nested"] = spaces.Dict({"discrete": spaces.Discrete(4)})
        self.observation_space = spaces.Dict(parts)
        self.action_space = spaces.Box(-1, 1, (2,), np.float32)

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed, options=options)
        if seed is not None:
            self.observation_space.seed(seed)
        return self.observation_space.sample(), {}

    def step(self, action: np.ndarray) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        return self.observation_space.sample(), float(action.sum()), False, False, {}


@pytest.mark.parametrize("algo", [*ALGOS, "ddpg"])
def test_a_dict_of_vectors_trains_as_the_flat_vector_does(make: Make, algo: str) -> None:
    actions = []
    for policy in ("SNMultiInputPolicy", "SNMlpPolicy"):
        env: Any = gym.wrappers.TimeLimit(VectorDictEnv(vector_only=True), 20)
        if policy == "SNMlpPolicy":
            env = gym.wrappers.FlattenObservation(env)
        model = make(algo, policy, env, gamma=0.5, learn=60)
        obs = np.array([0.3, -0.4], dtype=np.float32)
        given = {"vec": obs} if policy == "SNMultiInputPolicy" else obs
        actions.append(model.predict(given, deterministic=True)[0])
    np.testing.assert_allclose(actions[0], actions[1])


@pytest.mark.parametrize("algo", [*ALGOS, "ddpg"])
def test_mixed_dict_observations_train_and_evaluate(
    make: Make, algo: str, assert_normalised: Make
) -> None:
    env = gym.wrappers.TimeLimit(VectorDictEnv(), 10)
    options = {"features_extractor_kwargs": {"cnn_output_dim": 16}}
    model = make(algo, "SNMultiInputPolicy", env, buffer_size=60, policy_kwargs=options, learn=30)
    evaluate_policy(model, env, n_eval_episodes=2, warn=False)
    assert_normalised(model)


@pytest.mark.parametrize("algo", ALGOS)
@pytest.mark.parametrize("channel_last", [True, False])
def test_stacked_dict_frames_train(
    make: Make, algo: str, channel_last: bool, assert_normalised: Make
) -> None:
    env = VecFrameStack(
        DummyVecEnv([lambda: dict_env(channel_last)]),
        n_stack=3,
        channels_order={"vec": None, "img": "last" if channel_last else "first"},
    )
    options = {"features_extractor_kwargs": {"cnn_output_dim": 16}}
    model = make(algo, "SNMultiInputPolicy", env, buffer_size=60, policy_kwargs=options, learn=28)
    assert_normalised(model)


@pytest.mark.parametrize("algo", ALGOS)
def test_normalised_dict_observations_train(make: Make, algo: str, assert_normalised: Make) -> None:
    env = DummyVecEnv([lambda: gym.wrappers.TimeLimit(VectorDictEnv(), 10)])
    env = VecNormalize(env, norm_obs_keys=["vec"])
    options = {"features_extractor_kwargs": {"cnn_output_dim": 16}}
    model = make(algo, "SNMultiInputPolicy", env, buffer_size=60, policy_kwargs=options, learn=30)
    assert_normalised(model)


@pytest.mark.parametrize("algo", ALGOS)
def test_nested_dict_observations_are_refused_as_in_sb3(make: Make, algo: str) -> None:
    with pytest.raises(NotImplementedError):
        make(algo, "SNMultiInputPolicy", VectorDictEnv(nested=True))


# --- Images ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("algo", ALGOS)
@pytest.mark.parametrize("channel_first", [True, False])
def test_images_of_either_layout_train_and_load(
    make: Make, algo: str, channel_first: bool, tmp_path: Path
) -> None:
    env = image_env(channel_first)
    options = {"features_extractor_kwargs": {"features_dim": 16}}
    model = make(algo, "SNCnnPolicy", env, buffer_size=60, policy_kwargs=options, learn=28)
    assert is_vecenv_wrapped(model.get_env(), VecTransposeImage) is not channel_first
    obs, _ = env.reset()
    action, _ = model.predict(obs, deterministic=True)
    model.save(tmp_path / "cnn.zip")
    loaded = CLASSES[algo].load(tmp_path / "cnn.zip", device="cpu")
    np.testing.assert_array_equal(loaded.predict(obs, deterministic=True)[0], action)


@pytest.mark.parametrize("algo", ALGOS)
@pytest.mark.parametrize("share", [True, False])
def test_features_extractors_are_shared_and_averaged_as_in_sb3(
    make: Make, algo: str, share: bool
) -> None:
    options = {"share_features_extractor": share, "features_extractor_kwargs": {"features_dim": 16}}
    extra = {"policy_delay": 1} if algo == "td3" else {}
    model = make(algo, "SNCnnPolicy", image_env(), buffer_size=60, policy_kwargs=options, **extra)
    policy = model.policy
    assert (policy.actor.features_extractor is policy.critic.features_extractor) is share
    if algo == "td3":
        shared = policy.actor_target.features_extractor is policy.critic_target.features_extractor
        assert shared is share
    assert policy.critic.features_extractor is not policy.critic_target.features_extractor
    plain = make(algo, "CnnPolicy", image_env(), buffer_size=10, policy_kwargs=options)
    assert optimised(model) == optimised(plain)

    def pairs() -> list[tuple[Tensor, Tensor]]:
        return list(zip(model.critic.parameters(), model.critic_target.parameters(), strict=True))

    assert all(torch.equal(*pair) for pair in pairs())
    model.learn(28)
    assert not any(torch.allclose(*pair) for pair in pairs())

    model.tau = 0.0
    before = [target.clone() for _, target in pairs()]
    model.train(1, batch_size=8)
    assert all(torch.equal(*p) for p in zip(before, model.critic_target.parameters(), strict=True))

    shared_target = list(policy.critic_target.features_extractor.parameters())
    model.tau, model.lr_schedule = 0.1, lambda _: 0.0
    online = [parameter.clone() for parameter, _ in pairs()]
    model.train(1, batch_size=8)
    for old, kept, (new, target) in zip(before, online, pairs(), strict=True):
        assert torch.equal(new, kept)
        # SB3's TD3 averages an extractor that both targets share twice, once for each of them.
        twice = share and algo == "td3" and any(target is p for p in shared_target)
        remains = 0.9**2 if twice else 0.9
        torch.testing.assert_close(target, remains * old + (1 - remains) * kept)


@pytest.mark.parametrize("algo", ALGOS)
def test_image_like_input_without_image_scaling_trains(make: Make, algo: str) -> None:
    env = VecNormalize(DummyVecEnv([lambda: image_env(channel_first=True)]))
    options = {"normalize_images": False, "features_extractor_kwargs": {"features_dim": 16}}
    model = make(algo, "SNCnnPolicy", env, buffer_size=60, policy_kwargs=options, learn=25)
    assert not model.critic.normalize_images


# --- HER ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("algo", [*ALGOS, "ddpg"])
@pytest.mark.parametrize("image", [False, True])
def test_her_trains_saves_loads_and_evaluates(
    make: Make, algo: str, image: bool, tmp_path: Path, assert_normalised: Make
) -> None:
    options = {"features_extractor_kwargs": {"cnn_output_dim": 8}} if image else {}
    model = make(
        algo,
        "SNMultiInputPolicy",
        make_vec_env(bit_env, 2, env_kwargs={"image": image}),
        replay_buffer_class=HerReplayBuffer,
        replay_buffer_kwargs={"n_sampled_goal": 2, "goal_selection_strategy": "future"},
        train_freq=4,
        gradient_steps=2,
        buffer_size=200,
        policy_kwargs=options,
        learn=60,
    )
    assert_normalised(model)
    evaluate_policy(model, Monitor(bit_env(image)), n_eval_episodes=2)
    model.save(tmp_path / "her.zip")
    model.save_replay_buffer(tmp_path / "her.pkl")
    loaded = CLASSES[algo].load(tmp_path / "her.zip", env=model.get_env(), device="cpu")
    loaded.load_replay_buffer(tmp_path / "her.pkl", truncate_last_traj=False)
    assert_same_state(model, loaded)
    obs = model.get_env().reset()
    np.testing.assert_array_equal(
        model.predict(obs, deterministic=True)[0], loaded.predict(obs, deterministic=True)[0]
    )
    loaded.learn(20, reset_num_timesteps=False)
    assert_normalised(loaded)


@pytest.mark.parametrize("algo", ALGOS)
def test_her_on_normalised_rewards_trains(make: Make, algo: str) -> None:
    env = VecNormalize(DummyVecEnv([bit_env]), norm_obs=False)  # Bits are no Box space.
    model = make(
        algo,
        "SNMultiInputPolicy",
        env,
        replay_buffer_class=HerReplayBuffer,
        replay_buffer_kwargs={"n_sampled_goal": 2},
        learn=40,
    )
    assert model.get_vec_normalize_env() is env


# --- Replay, environments, VecNormalize, noise ----------------------------------------------------


@pytest.mark.parametrize("algo", [*ALGOS, "ddpg"])
def test_n_step_replay_trains(make: Make, algo: str, watch: Make) -> None:
    model = make(algo, n_steps=3)
    assert isinstance(model.replay_buffer, NStepReplayBuffer)
    seen = watch(model)
    model.learn(50)
    assert len(seen) > 50


@pytest.mark.parametrize("algo", ALGOS)
@pytest.mark.parametrize("n_envs", [2, 3])
def test_several_environments_train(make: Make, algo: str, n_envs: int, watch: Make) -> None:
    model = make(algo, env=make_vec_env("Pendulum-v1", n_envs), gradient_steps=-1)
    seen = watch(model)
    model.learn(48)
    assert model._n_updates >= 20
    assert len(seen) >= 40


@pytest.mark.parametrize("algo", ALGOS)
@pytest.mark.parametrize("train_freq", [4, (1, "episode"), (10, "step")])
def test_any_train_frequency_trains(
    make: Make, algo: str, train_freq: Any, assert_normalised: Make
) -> None:
    env = gym.wrappers.TimeLimit(gym.make("Pendulum-v1"), 15)
    model = make(algo, env=env, train_freq=train_freq, gradient_steps=3, learn=60)
    assert model._n_updates >= 6
    assert_normalised(model)


@pytest.mark.parametrize("algo", ALGOS)
def test_a_memory_saving_buffer_trains(make: Make, algo: str, assert_normalised: Make) -> None:
    kwargs = {"handle_timeout_termination": False}
    model = make(algo, optimize_memory_usage=True, replay_buffer_kwargs=kwargs, learn=40)
    assert_normalised(model)


@pytest.mark.parametrize("algo", ALGOS)
def test_vec_normalize_can_be_set_used_and_saved(
    make: Make, algo: str, tmp_path: Path, assert_normalised: Make
) -> None:
    def normalised(**kwargs: Any) -> VecNormalize:
        return VecNormalize(make_vec_env("Pendulum-v1", 1), clip_obs=10.0, **kwargs)

    env, eval_env = normalised(), normalised(training=False, norm_reward=False)
    model = make(algo, env=env)
    assert model.get_vec_normalize_env() is env
    model.set_env(eval_env)
    assert model.get_vec_normalize_env() is eval_env
    model.learn(10)
    model.set_env(env)
    model.learn(40)
    assert_normalised(model)
    env.save(tmp_path / "normalize.pkl")
    model.save(tmp_path / "model.zip")
    again = VecNormalize.load(tmp_path / "normalize.pkl", make_vec_env("Pendulum-v1", 1))
    loaded = CLASSES[algo].load(tmp_path / "model.zip", env=again, device="cpu")
    assert loaded.get_vec_normalize_env() is again
    loaded.learn(25)
    assert_normalised(loaded)


@pytest.mark.parametrize("algo", [*ALGOS, "ddpg"])
@pytest.mark.parametrize(
    "noise",
    [
        NormalActionNoise(np.zeros(1), 0.1 * np.ones(1)),
        OrnsteinUhlenbeckActionNoise(np.zeros(1), 0.1 * np.ones(1)),
    ],
)
def test_action_noise_is_used_and_vectorised(
    make: Make, algo: str, noise: Any, assert_normalised: Make
) -> None:
    noise = copy.deepcopy(noise)
    model = make(algo, env=make_vec_env("Pendulum-v1", 2), action_noise=noise, learn=40)
    assert isinstance(model.action_noise, VectorizedActionNoise)
    assert_normalised(model)


# --- Train and eval mode --------------------------------------------------------------------------


class BatchNormDropoutExtractor(BaseFeaturesExtractor):
    """Flattens, normalises over the batch and drops half of what remains."""

    def __init__(self, observation_space: spaces.Box) -> None:
        super().__init__(observation_space, int(np.prod(observation_space.shape)))
        self.batch_norm = nn.BatchNorm1d(self.features_dim)
        self.dropout = nn.Dropout(0.5)

    def forward(self, observations: Tensor) -> Tensor:
        return self.dropout(self.batch_norm(observations.flatten(1)))


def statistics(network: Any) -> tuple[Tensor, Tensor]:
    layer = network.features_extractor.batch_norm
    return layer.bias.detach().clone(), layer.running_mean.clone()


@pytest.mark.parametrize("algo", ALGOS)
def test_batch_statistics_move_in_training_alone(make: Make, algo: str) -> None:
    options = {"features_extractor_class": BatchNormDropoutExtractor}
    model = make(algo, policy_kwargs=options, tau=0.0, learning_starts=10)
    networks = [model.actor, model.critic, model.critic_target]
    before = [statistics(network) for network in networks]
    model.learn(10)
    obs = model.get_env().reset()
    first, _ = model.predict(obs, deterministic=True)
    for _ in range(3):
        np.testing.assert_array_equal(model.predict(obs, deterministic=True)[0], first)
    for network, old in zip(networks, before, strict=True):
        assert all(torch.equal(a, b) for a, b in zip(statistics(network), old, strict=True))
    assert not model.critic.training
    assert not model.critic_target.training

    model.learn(30)
    for network, old in zip(networks[:2], before[:2], strict=True):
        assert not any(
            torch.isclose(a, b).all() for a, b in zip(statistics(network), old, strict=True)
        )
    # Averaged parameters stay at tau=0; running statistics are copied all the same.
    assert torch.equal(statistics(model.critic_target)[0], before[2][0])
    assert torch.equal(statistics(model.critic_target)[1], statistics(model.critic)[1])
    assert model.critic.training
    assert not model.critic_target.training


# --- Custom policies ------------------------------------------------------------------------------


@pytest.mark.parametrize("algo", ALGOS)
@pytest.mark.parametrize(
    ("net_arch", "layers"),
    [
        ([4], (-2,)),
        ([4, 4], (-2,)),
        ([], (-1,)),
        ({"pi": [8], "qf": [16, 8, 4]}, "hidden"),
        ({"pi": [], "qf": [8]}, "all"),
        (None, (-2,)),
    ],
)
def test_any_architecture_is_normalised(
    make: Make, algo: str, net_arch: Any, layers: Any, watch: Make
) -> None:
    model = make(algo, policy_kwargs={"net_arch": net_arch, "sn_layers": layers})
    seen = watch(model, layers)
    model.learn(30)
    assert len(seen) > 15


@pytest.mark.parametrize("algo", ALGOS)
@pytest.mark.parametrize("optimizer_kwargs", [None, {"weight_decay": 0.0}, {"eps": 1e-5}])
def test_a_custom_optimiser_is_built_and_followed(
    make: Make, algo: str, optimizer_kwargs: Any, watch: Make
) -> None:
    options = {"optimizer_class": torch.optim.AdamW, "optimizer_kwargs": optimizer_kwargs}
    seen = watch(model := make(algo, policy_kwargs=options))
    model.learn(30)
    assert type(model.critic.optimizer) is torch.optim.AdamW
    assert len(seen) > 15


@pytest.mark.parametrize("algo", ALGOS)
@pytest.mark.parametrize("activation", [nn.Tanh, nn.PReLU, nn.ELU])
def test_a_custom_activation_trains(
    make: Make, algo: str, activation: type[nn.Module], watch: Make
) -> None:
    seen = watch(model := make(algo, policy_kwargs={"activation_fn": activation}))
    model.learn(30)
    assert len(seen) > 15
