"""The algorithms as a whole, against SB3's from the same seeds: what SAC and TD3 share."""

import copy
import gc
import io
import logging
import pickle
import weakref
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium import spaces
from scipy.stats import mannwhitneyu
from stable_baselines3 import HerReplayBuffer
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.envs import BitFlippingEnv, FakeImageEnv, SimpleMultiObsEnv
from stable_baselines3.common.vec_env import DummyVecEnv, VecNormalize
from torch import nn

import snrl
from snrl.spectral import fold_spectral_norm, native

from ..critics.extractors import BatchNormExtractor
from .pairs import (
    BATCH,
    CALM,
    FAST,
    FLOAT32,
    STOCK,
    assert_equal,
    distance,
    fill,
    in_float64,
    is_fast,
    make_one,
    make_pair,
    nudged,
    state,
    train,
)

pytestmark = pytest.mark.skipif(not native.is_available(), reason="no compiler")
ALGOS = ["sac", "td3"]
POLICIES = ["MlpPolicy", "SNMlpPolicy"]
# Steps of LOBPCG after which a norm is converged, whatever the warm start: see below.
CONVERGED = {"n_power_iterations": 30}


class Noise(gym.Env[Any, Any]):
    """States are noise."""

    def __init__(self, shape: Any = (3,), dtype: Any = np.float32, actions: Any = (2,)) -> None:
        self.observation_space = spaces.Box(0, 3, shape, dtype)
        self.action_space = spaces.Box(-1, 1, actions, np.float32)

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        super().reset(seed=seed, options=options)
        return self.observation_space.sample(), {}

    def step(self, action: np.ndarray) -> Any:
        return self.observation_space.sample(), float(action.sum()), False, False, {}


# --- Parity ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("algo", ALGOS)
@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("n_critics", [1, 2, 5, 10])
def test_ten_updates_in_float32(algo: str, policy: str, n_critics: int) -> None:
    pair = make_pair(algo, policy, policy_kwargs={"n_critics": n_critics, **CALM})
    train(pair, 1)
    assert_equal(*pair, rtol=FLOAT32)
    train(pair, 9, first=1)
    assert_equal(*pair, rtol=FLOAT32)
    assert is_fast(pair[0])


@pytest.mark.parametrize("algo", ALGOS)
@pytest.mark.parametrize("policy", POLICIES)
def test_ten_updates_in_float32_with_adams_default_eps(algo: str, policy: str) -> None:
    pair = make_pair(algo, policy)
    train(pair, 10)
    assert_equal(*pair, rtol=1e-4)


OPTIONS: dict[str, dict[str, Any]] = {
    "one step": {},
    "three steps": {"steps": 3},
    "twenty steps": {"steps": 20},
    "n-step returns": {"n_steps": 3},
    "no layers": {"policy_kwargs": {"net_arch": []}, "policy": "MlpPolicy"},
    "one layer": {"policy_kwargs": {"net_arch": [16]}},
    "three layers": {"policy_kwargs": {"net_arch": [32, 32, 32]}},
    "unlike networks": {"policy_kwargs": {"net_arch": {"pi": [7], "qf": [9, 12]}}},
    "all normalised": {"policy_kwargs": {"sn_layers": "all"}},
    "scheduled norm": {"policy_kwargs": {"sn_coef": (2.0, 1.0, 5)}},
    "AdamW": {
        "policy_kwargs": {
            "optimizer_class": torch.optim.AdamW,
            "optimizer_kwargs": {"weight_decay": 0.1, "betas": (0.8, 0.95)},
        }
    },
    "weight decay": {"policy_kwargs": {"optimizer_kwargs": {"weight_decay": 0.1}}},
    "SGD": {"policy_kwargs": {"optimizer_class": torch.optim.SGD}},
    "amsgrad": {"policy_kwargs": {"optimizer_kwargs": {"amsgrad": True}}},
    "large steps": {"learning_rate": 0.03, "tau": 0.3, "gamma": 0.9},
    "one transition": {"batch_size": 1},
    "one expectation": {"policy_kwargs": {"n_critics": 1}},
}


@pytest.mark.parametrize("algo", ALGOS)
@pytest.mark.parametrize("name", OPTIONS)
def test_updates_in_float64(algo: str, name: str) -> None:
    """Without SN to 1e-10, and far better; with it as long as the norms are converged."""
    options = copy.deepcopy(OPTIONS[name])
    policy, steps = options.pop("policy", "SNMlpPolicy"), options.pop("steps", 1)
    batch_size = options.pop("batch_size", BATCH)
    if policy == "SNMlpPolicy":
        options["policy_kwargs"] = options.get("policy_kwargs", {}) | CONVERGED
    pair = make_pair(algo, policy, **options)
    with in_float64(*pair):
        train(pair, max(20 // steps, 3), steps, batch_size)
    assert is_fast(pair[0])
    assert_equal(*pair, rtol=1e-10)


@pytest.mark.parametrize("algo", ALGOS)
@pytest.mark.parametrize("policy", POLICIES)
def test_two_hundred_updates_in_float64(algo: str, policy: str) -> None:
    options = CONVERGED if policy == "SNMlpPolicy" else {}
    pair = make_pair(algo, policy, policy_kwargs=options)
    with in_float64(*pair):
        train(pair, 1, 10)
        train(pair, 10, 19, first=1)
    assert is_fast(pair[0])
    assert_equal(*pair, rtol=1e-10)


@pytest.mark.parametrize("algo", ALGOS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_what_holds_of_two_hundred_updates_with_the_default_tracking(
    algo: str, dtype: torch.dtype
) -> None:
    """No more than of SB3's own update, where that is rounded in another way.

    Vectors are carried only until the last step has raised the norm by no more than a tolerance;
    rounding decides now and then at which step, and the gradient has the vectors' own error, of the
    order of its root. What comes of it in SB3, with weights moved by their last digits, is between
    some 1e-5 and a fifth of the largest moment. Fast models, which are rounded in another way at
    each step, go no further than twice that.
    """
    fast, stock = (
        [make_one(of[algo], "SNMlpPolicy", policy_kwargs=CALM) for _ in range(12)]
        for of in (FAST, STOCK)
    )
    with in_float64(*fast, *stock) if dtype is torch.float64 else nullcontext():
        for i in range(1, 12):
            nudged(fast[i], i)
            nudged(stock[i], i)
        train([*fast, *stock], 1, 10)
        assert_equal(fast[0], stock[0], rtol=1e-10 if dtype is torch.float64 else FLOAT32)
        train([*fast, *stock], 10, 19, first=1)
    assert all(map(is_fast, fast))
    found, usual = ([distance(x, stock[0])[0] for x in models[1:]] for models in (fast, stock))
    assert mannwhitneyu(found, [2 * x for x in usual], alternative="greater").pvalue > 1e-3


NORMS: dict[str, dict[str, Any]] = {
    "layer_norm": {"eps": 1e-3},
    "rms_norm": {},
    "sn+layer_norm": {"affine": False},
    "sn+rms_norm": {"affine": False},
}


def with_norms(critic: str) -> dict[str, Any]:
    """Options of a policy whose critic's hidden layers have norms."""
    options = {"critic": critic, "critic_options": {critic.removeprefix("sn+"): NORMS[critic]}}
    return options | (CONVERGED if critic.startswith("sn+") else {})


@pytest.mark.parametrize("algo", ALGOS)
@pytest.mark.parametrize("critic", NORMS)
def test_critics_with_norms(algo: str, critic: str) -> None:
    """Alone and upon normalised layers, after 1, 10 and 200 updates in float64."""
    pair = make_pair(algo, "SNMlpPolicy", policy_kwargs=with_norms(critic))
    with in_float64(*pair):
        for calls, first in ((1, 0), (9, 1), (10, 10)):
            train(pair, calls, 19 if first == 10 else 1, first=first)
            assert_equal(*pair, rtol=1e-10)
    assert is_fast(pair[0])


@pytest.mark.parametrize("algo", ALGOS)
@pytest.mark.parametrize("critic", NORMS)
def test_critics_with_norms_in_float32(algo: str, critic: str) -> None:
    pair = make_pair(
        algo, "SNMlpPolicy", policy_kwargs={"n_critics": 3, **CALM, **with_norms(critic)}
    )
    train(pair, 10)
    assert is_fast(pair[0])
    assert_equal(*pair, rtol=FLOAT32)


@pytest.mark.parametrize("algo", ALGOS)
def test_a_schedule_of_the_learning_rate(algo: str) -> None:
    pair = make_pair(algo, learning_rate=lambda left: 1e-3 * left)
    with in_float64(*pair):
        for call in range(6):
            for model in pair:
                model._current_progress_remaining = 1 - call / 6
            train(pair, 1, first=call)
            assert pair[0].critic.optimizer.param_groups[0]["lr"] == 1e-3 * (1 - call / 6)
    assert_equal(*pair, rtol=1e-10)


@pytest.mark.parametrize("algo", ALGOS)
@pytest.mark.parametrize(
    "env",
    [
        lambda: Noise((3, 4)),
        lambda: Noise((3,), np.uint8),
        lambda: Noise((3,), np.int64),
        lambda: Noise((3,), np.float64),
        lambda: DummyVecEnv([Noise] * 3),
        lambda: VecNormalize(DummyVecEnv([Noise] * 2)),
        pytest.param(
            lambda: Noise(actions=(2, 3)),
        ),
    ],
    ids=["matrix", "uint8", "int64", "float64", "3 envs", "VecNormalize", "matrix of actions"],
)
def test_environments(algo: str, env: Any) -> None:
    pair = make_pair(algo, env=env)
    with in_float64(*pair):
        train(pair, 4, 3)
    assert is_fast(pair[0])
    assert_equal(*pair, rtol=1e-10)


@pytest.mark.parametrize("algo", ALGOS)
@pytest.mark.parametrize("count", [2, 3])
def test_any_number_of_threads(algo: str, count: int) -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        pair = make_pair(algo, "SNMlpPolicy", policy_kwargs=CONVERGED)
        with in_float64(*pair):
            train(pair, 5)
    finally:
        torch.set_num_threads(before)
    assert_equal(*pair, rtol=1e-10)


@pytest.mark.parametrize("algo", ALGOS)
def test_observations_that_are_missing_make_losses_missing(algo: str) -> None:
    pair = make_pair(algo)
    for model in pair:
        model.replay_buffer.observations[:] = np.nan
    for model in pair if algo == "td3" else pair[:1]:  # SB3's SAC refuses to draw actions
        train([model], 2)
        logged = model.logger.name_to_value
        assert np.isnan(logged["train/critic_loss"])
        assert np.isnan(logged["train/actor_loss"])


@pytest.mark.parametrize(
    "algo",
    [
        pytest.param("sac"),
        "td3",
    ],
)
@pytest.mark.filterwarnings("ignore:Mean of empty slice:RuntimeWarning")
@pytest.mark.filterwarnings("ignore:invalid value:RuntimeWarning")
def test_no_gradient_steps(algo: str) -> None:
    pair = make_pair(algo)
    for model in pair:
        model.train(0, BATCH)
        assert model._n_updates == 0


# --- learn() --------------------------------------------------------------------------------------


@pytest.mark.parametrize("algo", ALGOS)
@pytest.mark.parametrize("n_envs", [1, 3])
@pytest.mark.parametrize("policy", POLICIES)
def test_learning_goes_on(algo: str, n_envs: int, policy: str) -> None:
    options = {"learning_starts": 20, "batch_size": BATCH, "gradient_steps": 2}
    pair = make_pair(
        algo,
        policy,
        lambda: make_vec_env("Pendulum-v1", n_envs, seed=0),
        policy_kwargs=CONVERGED if policy == "SNMlpPolicy" else {},
        **options,
    )
    with in_float64(*pair):
        for total in (45, 30):
            for model in pair:
                model.set_random_seed(total)
                model.learn(total, reset_num_timesteps=False)
    assert is_fast(pair[0])
    assert pair[0].num_timesteps == pair[1].num_timesteps
    assert_equal(*pair, rtol=1e-9)
    mine, theirs = (model.replay_buffer.rewards for model in pair)
    np.testing.assert_allclose(mine, theirs, rtol=1e-6, atol=1e-6)


# --- Saving and copying ---------------------------------------------------------------------------


@pytest.mark.parametrize("algo", ALGOS)
@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("way", ["to stock", "from stock"])
def test_what_one_saves_the_other_goes_on_with(
    algo: str, policy: str, way: str, tmp_path: Path
) -> None:
    pair = make_pair(algo, policy, policy_kwargs=CALM)
    train(pair, 3)
    source = pair[way == "from stock"]
    source.save(tmp_path / "model.zip")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(logging.getLogger("snrl"), "disabled", True)
        loaded = [
            kind[algo].load(tmp_path / "model.zip", env=source.get_env(), device="cpu")
            for kind in (FAST, STOCK)
        ]
    for model in loaded:
        model.set_logger(type(source.logger)(None, []))
        fill(model)
        assert not any(x in vars(model) for x in ("_update", "_reason"))
    train(loaded, 5)
    assert is_fast(loaded[0])
    assert_equal(*loaded, rtol=FLOAT32)
    assert loaded[0]._n_updates == 8


@pytest.mark.parametrize("algo", ALGOS)
def test_nothing_of_the_update_is_saved(algo: str) -> None:
    sizes = []
    for model in make_pair(algo):
        train([model], 3)
        file = io.BytesIO()
        model.save(file)
        sizes.append(len(file.getvalue()))
        file.seek(0)
        assert b'_update"' not in file.getvalue()
    assert sizes[0] == pytest.approx(sizes[1], rel=0.02)


@pytest.mark.parametrize("algo", ALGOS)
def test_a_copied_policy_stays_behind(algo: str) -> None:
    model = make_one(FAST[algo], "SNMlpPolicy")
    train([model], 3)
    copied = copy.deepcopy(model.policy)
    before = {k: v.clone() for k, v in copied.state_dict().items()}
    train([model], 3, first=3)
    for name, value in copied.state_dict().items():
        assert torch.equal(value, before[name])
    moved = model.policy.state_dict()
    assert not any(torch.equal(moved[k], v) for k, v in before.items() if k.startswith("actor."))


@pytest.mark.parametrize("algo", ALGOS)
@pytest.mark.parametrize(
    "way",
    [copy.deepcopy, lambda x: pickle.loads(pickle.dumps(x)), fold_spectral_norm],
    ids=["deepcopy", "pickle", "fold"],
)
def test_a_copied_model_learns_by_itself(algo: str, way: Callable[[Any], Any]) -> None:
    pair = make_pair(algo, "SNMlpPolicy", policy_kwargs=CALM)
    train(pair, 3)
    copied = [way(model) for model in (pair[1], pair[0])][::-1]
    before = {k: v.clone() for k, v in pair[0].policy.state_dict().items()}
    train(copied, 3, first=3)
    for name, value in pair[0].policy.state_dict().items():
        assert torch.equal(value, before[name])
    assert_equal(*copied, rtol=FLOAT32)


@pytest.mark.parametrize("algo", ALGOS)
def test_a_model_is_freed(algo: str) -> None:
    model = make_one(FAST[algo], "SNMlpPolicy")
    train([model], 2)
    gone = weakref.ref(model.policy)
    del model
    gc.collect()
    assert gone() is None


@pytest.mark.parametrize("algo", ALGOS)
def test_two_models_learn_in_turn(algo: str) -> None:
    pair = make_pair(algo, policy_kwargs=CALM)
    other = make_one(FAST[algo], "SNMlpPolicy", seed=5)
    for call in range(5):
        train([pair[0]], 1, first=call)
        train([other], 1, first=call)
        train([pair[1]], 1, first=call)
    assert_equal(*pair, rtol=FLOAT32)


# --- Changes between updates ----------------------------------------------------------------------


def other_weights(model: Any) -> None:
    torch.manual_seed(4)
    state = {
        k: torch.randn_like(v) * 0.2
        for k, v in model.policy.state_dict().items()
        if not k.startswith("spectral.")
    }
    spectral = {k: v for k, v in model.policy.state_dict().items() if k.startswith("spectral.")}
    model.policy.load_state_dict(state | spectral)


def other_parameters(model: Any) -> None:
    parameters = copy.deepcopy(model.get_parameters())
    for name, part in parameters.items():
        if name.endswith("optimizer"):
            for kept in part["state"].values():
                kept["exp_avg"] *= 0.5
                kept["step"] += 5
    model.set_parameters(parameters)


def hook_on(find: Callable[[Any], nn.Module]) -> Callable[[Any], None]:
    def change(_: Any, __: Any, out: Any) -> Any:
        return tuple(-3 * x for x in out) if isinstance(out, tuple) else -3 * out

    return lambda model: find(model).register_forward_hook(change) and None


def scale_down(model: Any) -> None:
    model.critic.q_networks[0][0].weight.register_hook(lambda grad: 0.1 * grad)


def drop_gradients(model: Any) -> None:
    model.policy.zero_grad()


def replace_gradients(model: Any) -> None:
    def clip(*_: Any) -> None:
        for param in model.critic.parameters():
            param.grad = param.grad.clamp(-0.01, 0.01)

    model.critic.optimizer.register_step_pre_hook(clip)


def freeze(model: Any) -> None:
    model.critic.q_networks[0][0].weight.requires_grad_(False)


def other_optimizer(part: str) -> Callable[[Any], None]:
    def change(model: Any) -> None:
        owner = getattr(model, part)
        owner.optimizer = torch.optim.Adam(owner.parameters(), lr=1e-2, eps=1e-4)

    return change


def optimizer_of_some(model: Any) -> None:
    """The target follows all parameters, whatever the optimiser holds."""
    last = [param for net in model.critic.q_networks for param in net[-1].parameters()]
    model.critic.optimizer = torch.optim.Adam(last, lr=1e-2, eps=1e-4)


def another_activation(model: Any) -> None:
    model.critic.q_networks[0][1] = nn.Tanh()


def another_layer(model: Any) -> None:
    torch.manual_seed(2)
    network = model.critic.q_networks[0]
    network[0] = nn.Linear(network[0].in_features, network[0].out_features).to(network[0].weight)
    other_optimizer("critic")(model)


def another_extractor(model: Any) -> None:
    class Twice(nn.Module):
        def forward(self, obs: Any) -> Any:
            return 2 * obs.flatten(1)

    model.critic.features_extractor = Twice()


def parts(name: str) -> Callable[[Any], nn.Module]:
    """Find a module that an update evaluates."""

    def find(model: Any) -> nn.Module:
        actor = model.actor
        layers = actor.latent_pi if hasattr(actor, "latent_pi") else actor.mu
        return {
            "critic": model.critic,
            "head": model.critic.q_networks[0],
            "layer": model.critic.q_networks[0][2],
            "target's layer": model.critic_target.q_networks[0][-1],
            "actor": actor,
            "actor's layer": layers[0],
            "extractor": actor.features_extractor,
        }[name]

    return find


HOOKED = ["critic", "head", "layer", "target's layer", "actor", "actor's layer", "extractor"]


@pytest.mark.parametrize("algo", ALGOS)
@pytest.mark.parametrize(
    "change",
    [
        pytest.param(other_weights, id="load_state_dict"),
        pytest.param(other_parameters, id="set_parameters"),
        pytest.param(lambda m: m.critic.optimizer.state.clear(), id="moments forgotten"),
        pytest.param(lambda m: setattr(m, "tau", 0.5), id="tau"),
        pytest.param(lambda m: setattr(m, "gamma", 0.5), id="gamma"),
        pytest.param(lambda m: setattr(m, "lr_schedule", lambda _: 1e-2), id="lr"),
        pytest.param(lambda m: fill(m, 150, seed=1), id="a full buffer"),
        pytest.param(lambda m: m.policy.float().double(), id="moved"),
        pytest.param(drop_gradients, id="zero_grad"),
        pytest.param(replace_gradients, id="gradients replaced"),
        pytest.param(scale_down, id="gradient hook"),
        pytest.param(freeze, id="frozen"),
        pytest.param(other_optimizer("critic"), id="critic's optimiser"),
        pytest.param(other_optimizer("actor"), id="actor's optimiser"),
        pytest.param(optimizer_of_some, id="optimiser of some parameters"),
        pytest.param(another_activation, id="activation"),
        pytest.param(another_layer, id="layer"),
        pytest.param(another_extractor, id="extractor"),
        *(pytest.param(hook_on(parts(name)), id=f"hook on {name}") for name in HOOKED),
    ],
)
def test_changes_between_updates_are_followed(
    algo: str, change: Callable[[Any], None], request: pytest.FixtureRequest
) -> None:
    if algo == "sac" and "hook on actor-" in request.node.name:
        pytest.skip("SAC does not call it, but its action_log_prob")
    pair = make_pair(algo, "MlpPolicy", policy_kwargs=CALM)
    with in_float64(*pair):
        train(pair, 3)
        for model in pair:
            change(model)
        train(pair, 4, first=3)
    assert_equal(*pair, rtol=1e-10)


@pytest.mark.parametrize("algo", ALGOS)
def test_a_normalised_actor_is_left_to_sb3(algo: str, caplog: pytest.LogCaptureFixture) -> None:
    model = make_one(FAST[algo])
    snrl.spectral_normalize(model.actor, layers=(-2,))
    train([model], 1)
    assert not is_fast(model)
    assert "normalised layers" in caplog.text


@pytest.mark.parametrize("policy", ["MlpPolicy", "SNMlpPolicy"])
@pytest.mark.parametrize("algo", ALGOS)
def test_results_do_not_depend_on_the_number_of_threads(algo: str, policy: str) -> None:
    """To the last bit: which number is fastest is found out by the clock."""
    before, found = torch.get_num_threads(), []
    try:
        for count in (1, 2, 3):
            torch.set_num_threads(count)
            model = make_one(FAST[algo], policy, policy_kwargs={"net_arch": [37, 50]})
            train([model], 3, 4, 77)
            assert is_fast(model)
            found.append(dict(state(model)))
    finally:
        torch.set_num_threads(before)
    for other in found[1:]:
        assert other.keys() == found[0].keys()
        for name, value in found[0].items():
            assert torch.equal(other[name], value), name


def test_an_entropy_coefficient_of_another_dtype_is_left_to_sb3() -> None:
    model = make_one(FAST["sac"])
    train([model], 2)
    assert is_fast(model)
    model.log_ent_coef.data = model.log_ent_coef.data.double()
    assert not model._update.is_for(model, BATCH)
    assert "log_ent_coef" in str(type(model._update).why_not(model))


@pytest.mark.parametrize("algo", ALGOS)
def test_other_batch_sizes(algo: str) -> None:
    pair = make_pair(algo, "SNMlpPolicy", policy_kwargs=CONVERGED)
    with in_float64(*pair):
        for call, batch_size in enumerate((8, 40, 40, 1, 8)):
            train(pair, 1, 2, batch_size, first=call)
    assert is_fast(pair[0])
    assert_equal(*pair, rtol=1e-10)


@pytest.mark.parametrize("algo", ALGOS)
def test_stock_updates_in_between(algo: str) -> None:
    """As a subclass may do them, or a hook that comes and goes."""
    pair = make_pair(algo)
    with in_float64(*pair):
        train(pair, 3)
        for model in pair:
            torch.manual_seed(50)
            np.random.seed(50)
            STOCK[algo].train(model, 2, BATCH)
        train(pair, 3, first=3)
    assert_equal(*pair, rtol=1e-10)


# --- What goes SB3's way --------------------------------------------------------------------------


def slow(make: dict[str, Any], reason: str, name: str, *algos: str) -> Any:
    return pytest.param(make, reason, algos or ("sac", "td3"), id=name)


def seeded(env: Any) -> Any:
    env.observation_space.seed(0)
    return env


IMAGES = {
    "policy": "CnnPolicy",
    "env": lambda: seeded(FakeImageEnv(36, 36, n_channels=1, discrete=False)),
    "policy_kwargs": {"features_extractor_kwargs": {"features_dim": 8}},
    "learn": 24,
}
DICTS = {
    "policy": "SNMultiInputPolicy",
    "env": lambda: SimpleMultiObsEnv(discrete_actions=False, random_start=False),
    "policy_kwargs": {"features_extractor_kwargs": {"cnn_output_dim": 8}},
    "learn": 24,
}
GOALS = {
    "policy": "MultiInputPolicy",
    "env": lambda: BitFlippingEnv(n_bits=4, continuous=True),
    "replay_buffer_class": HerReplayBuffer,
}


@pytest.mark.parametrize("algo", ALGOS)
@pytest.mark.parametrize(
    ("options", "reason", "algos"),
    [
        slow(IMAGES, "observations are images", "images"),
        slow(DICTS, "observations are of a Dict space", "dict"),
        slow(GOALS, "observations are of a Dict space", "HER"),
        slow({"use_sde": True}, "gSDE draws its noise", "gSDE", "sac"),
        slow({"policy_kwargs": {"activation_fn": nn.Tanh}}, "layer of type Tanh", "Tanh"),
        slow(
            {"policy_kwargs": {"features_extractor_class": BatchNormExtractor}},
            "the features extractor is a BatchNormExtractor",
            "extractor",
        ),
        slow({"policy_kwargs": {"sn_mode": "gain"}}, "a layer with a learned gain", "gain"),
        slow({"policy_kwargs": {"sn_mode": "div_out"}}, "somebody has hooked the", "div_out"),
    ],
)
def test_one_line_says_why_an_update_is_sb3s(
    algo: str,
    options: dict[str, Any],
    reason: str,
    algos: tuple[str, ...],
    caplog: pytest.LogCaptureFixture,
) -> None:
    if algo not in algos:
        pytest.skip("there is no such option")
    options = {"policy": "SNMlpPolicy", "env": "Pendulum-v1", "learn": 40} | options
    n_steps = options.pop("learn")
    models = []
    with caplog.at_level("WARNING", "snrl"):
        for kind in (FAST, STOCK):
            env = options["env"]
            model = kind[algo](
                options["policy"],
                env() if callable(env) else env,
                policy_kwargs={"net_arch": [16, 16]} | options.get("policy_kwargs", {}),
                **{k: v for k, v in options.items() if k not in ("policy", "env", "policy_kwargs")},
                **{"learning_starts": 20, "batch_size": 8, "buffer_size": 100, "seed": 0},
                device="cpu",
            )
            model.get_env().observation_space.seed(0)
            models.append(model.learn(n_steps))
    said = [x.getMessage() for x in caplog.records if x.name == "snrl" and "updates as" in x.msg]
    assert len(said) == 1
    assert reason in said[0]
    assert type(models[0]).__name__ in said[0]
    assert not is_fast(models[0])
    assert models[0]._n_updates > 0
    for name, value in models[1].policy.state_dict().items():
        assert torch.equal(models[0].policy.state_dict()[name], value), name


@pytest.mark.parametrize("algo", ALGOS)
@pytest.mark.parametrize(
    "name",
    [
        "head",
        "layer",
        "target's layer",
        *(
            pytest.param(
                name,
            )
            for name in ("critic", "actor", "extractor")
        ),
    ],
)
def test_hooks_from_the_start(algo: str, name: str, caplog: pytest.LogCaptureFixture) -> None:
    pair = make_pair(algo)
    with in_float64(*pair), caplog.at_level("WARNING", "snrl"):
        for model in pair:
            hook_on(parts(name))(model)
        train(pair, 3)
    assert distance(*pair)[0] == 0
    assert len(caplog.records) == 1
    assert "somebody has hooked the" in caplog.text


def shrink(param: Any) -> None:
    param.grad.mul_(0.1)


@pytest.mark.parametrize("algo", ALGOS)
@pytest.mark.parametrize("kind", ["grad", "accumulated"])
def test_hooks_of_a_parameter_from_the_start(algo: str, kind: str) -> None:
    pair = make_pair(algo)
    with in_float64(*pair):
        for model in pair:
            if kind == "grad":
                scale_down(model)
            else:
                weight = model.critic.q_networks[0][0].weight
                weight.register_post_accumulate_grad_hook(shrink)
        train(pair, 3)
    assert_equal(*pair, rtol=1e-10)


@pytest.mark.parametrize("algo", ALGOS)
def test_the_reason_is_said_again_only_when_it_is_another(
    algo: str, caplog: pytest.LogCaptureFixture
) -> None:
    (model,) = (make_one(FAST[algo]),)
    with caplog.at_level("WARNING", "snrl"):
        handle = model.critic.q_networks[0][0].register_forward_hook(lambda *_: None)
        train([model], 3)
        assert len(caplog.records) == 1
        handle.remove()
        train([model], 2)
        assert is_fast(model)
        assert len(caplog.records) == 1
        model.critic_target.double()
        for _ in range(2):
            with pytest.raises(RuntimeError):
                train([model], 1)
    assert len(caplog.records) == 2
    assert "several dtypes" in caplog.text


@pytest.mark.parametrize("algo", ["sac"])
@pytest.mark.parametrize(
    "mode",
    [
        *(
            mode
            for mode in snrl.spectral.modes.MODES
            if mode not in ("gain", "div_out", "layer_lr")
        ),
        pytest.param(
            "layer_lr",
        ),
    ],
)
def test_modes(algo: str, mode: str) -> None:
    kwargs = {"sn_mode": mode, "optimizer_kwargs": {"eps": 1e-2}, **CONVERGED}
    pair = make_pair(algo, "SNMlpPolicy", policy_kwargs=kwargs)
    other = make_one(STOCK[algo], "SNMlpPolicy", policy_kwargs=kwargs)
    models = [*pair, other]
    with in_float64(*models):
        nudged(other)
        for model in models:
            with torch.no_grad():
                for network in model.critic.q_networks:
                    network[2].weight.mul_(4)
            model.policy.spectral.reset()
        train(models, 6, 2)
    # The hammer leaves equal singular values behind, whose vectors rounding decides.
    assert_equal(*pair, rtol=1e-8 + 30 * distance(other, pair[1])[0])
    assert is_fast(pair[0])
