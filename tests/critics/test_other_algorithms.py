"""What SAC's and TD3's critics promise, in TQC, CrossQ and DQN.

The scenarios are those of SB3's and sb3-contrib's own tests of these policies.
"""

import copy
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sb3_contrib import TQC, CrossQ
from sb3_contrib.crossq import policies as crossq_policies
from sb3_contrib.tqc import policies as tqc_policies
from stable_baselines3 import DQN
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.envs import FakeImageEnv, SimpleMultiObsEnv
from stable_baselines3.common.vec_env import VecNormalize
from stable_baselines3.dqn import policies as dqn_policies
from torch import Tensor, nn

import snrl
import snrl.crossq
import snrl.dqn
import snrl.tqc
from snrl.critics import access, critic_lipschitz
from snrl.spectral import SpectralLayer, SpectralNormalizer

from .extractors import BatchNormExtractor

Make = Callable[..., Any]
CLASSES = {"tqc": TQC, "crossq": CrossQ, "dqn": DQN}
STOCK = {"tqc": tqc_policies, "crossq": crossq_policies, "dqn": dqn_policies}
CRITICS = {
    "tqc": tqc_policies.Critic,
    "crossq": crossq_policies.CrossQCritic,
    "dqn": dqn_policies.QNetwork,
}
KINDS = [("tqc", "Mlp"), ("tqc", "Cnn"), ("tqc", "MultiInput"), ("crossq", "Mlp")]
KINDS += [("dqn", "Mlp"), ("dqn", "Cnn"), ("dqn", "MultiInput")]


def of_kind(make: Make, algo: str, kind: str, prefix: str = "SN", **kwargs: Any) -> Any:
    """Make a model with a policy of that kind, on a task of that kind."""
    discrete = algo == "dqn"
    env: Any = None
    options: dict[str, Any] = {}
    if kind == "Cnn":
        env = FakeImageEnv(discrete=discrete, screen_height=36, screen_width=36)
        options = {"features_extractor_kwargs": {"features_dim": 16}}
    elif kind == "MultiInput":
        env = SimpleMultiObsEnv(discrete_actions=discrete)
        options = {"features_extractor_kwargs": {"cnn_output_dim": 16}}
    if algo == "tqc":
        options |= {"n_quantiles": 5}
    kwargs["policy_kwargs"] = options | kwargs.get("policy_kwargs", {})
    size = 500 if kind == "Mlp" else 60
    return make(algo, f"{prefix}{kind}Policy", env, buffer_size=size, **kwargs)


def inputs(model: Any, rows: int = 5) -> tuple[Any, list[Any]]:
    """Observations, and what a critic is called with for them."""
    model.observation_space.seed(0)
    drawn = [model.observation_space.sample() for _ in range(rows)]
    obs: Any = np.stack(drawn) if not isinstance(drawn[0], dict) else None
    if obs is None:
        obs = {name: np.stack([x[name] for x in drawn]) for name in drawn[0]}
    tensors, _ = model.policy.obs_to_tensor(obs)
    if not access.reads_action(access.online_critic(model)):
        return obs, [tensors]
    generator = torch.Generator().manual_seed(0)
    shape = (rows, *model.action_space.shape)
    return obs, [tensors, 2 * torch.rand(shape, generator=generator) - 1]


@torch.no_grad()
def evaluate(model: Any) -> dict[str, Any]:
    obs, given = inputs(model)
    model.policy.set_training_mode(False)
    answers: dict[str, Any] = {"actions": model.predict(obs, deterministic=True)[0]}
    for name, critic in critics(model).items():
        values = critic(*given)
        answers[name] = (torch.stack(values) if isinstance(values, tuple) else values).numpy()
    return answers


def critics(model: Any) -> dict[str, Any]:
    found = {"online": access.online_critic(model), "target": access.target_critic(model)}
    return {name: critic for name, critic in found.items() if critic is not None}


def assert_same_state(one: Any, other: Any) -> None:
    expected, got = one.policy.state_dict(), other.policy.state_dict()
    assert expected.keys() == got.keys()
    for name, value in expected.items():
        assert torch.equal(value, got[name]), name


# --- Names ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("algo", "kind"), KINDS)
def test_names_resolve_to_subclasses_of_stock_policies(algo: str, kind: str) -> None:
    policy = getattr(getattr(snrl, algo), f"{kind}Policy")
    assert CLASSES[algo].policy_aliases[f"SN{kind}Policy"] is policy
    stock = getattr(STOCK[algo], f"{kind}Policy")
    assert issubclass(policy, stock)
    assert CLASSES[algo].policy_aliases[f"{kind}Policy"] is stock
    assert {n for n in CLASSES[algo].policy_aliases if n.startswith("SN")} == {
        f"SN{other}Policy" for name, other in KINDS if name == algo
    }


@pytest.mark.parametrize(
    "way", ["import sb3_contrib, snrl", "import snrl; snrl.tqc; snrl.SNCrossQPolicy"]
)
def test_names_are_registered_by_import(way: str) -> None:
    code = "from sb3_contrib import TQC, CrossQ\n"
    code += "print(*('SNMlpPolicy' in x.policy_aliases for x in (TQC, CrossQ)))"
    command = [sys.executable, "-c", f"{way}\n{code}"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout == "True True\n"


# --- Arithmetic -----------------------------------------------------------------------------------


@pytest.mark.parametrize("algo", CLASSES)
def test_a_plain_critic_is_the_stock_one_bit_for_bit(make: Make, algo: str) -> None:
    own = of_kind(make, algo, "Mlp", policy_kwargs={"critic": "plain"}, learn=40)
    stock = of_kind(make, algo, "Mlp", prefix="", learn=40)
    assert all(type(critic) is CRITICS[algo] for critic in critics(own).values())
    assert_same_state(own, stock)


@pytest.mark.parametrize(("algo", "kind"), KINDS)
def test_initial_weights_are_the_stock_ones(make: Make, algo: str, kind: str) -> None:
    own, stock = of_kind(make, algo, kind), of_kind(make, algo, kind, prefix="")
    state = own.policy.state_dict()
    for name, value in stock.policy.state_dict().items():
        assert torch.equal(value, state[name]), name
    assert all(name.startswith("spectral.") for name in state.keys() - stock.policy.state_dict())


@pytest.mark.parametrize("algo", CLASSES)
def test_values_are_those_of_the_stock_forward(make: Make, algo: str) -> None:
    """Which calls one normalised layer after the other."""
    model = of_kind(make, algo, "Mlp", learn=40)
    _, given = inputs(model)
    for critic in critics(model).values():
        got, expected = critic(*given), CRITICS[algo].forward(critic, *given)
        torch.testing.assert_close(got, expected, rtol=1e-5, atol=1e-6)
        grads = []
        for values in (got, expected):
            total = sum(x.square().sum() for x in values)
            grads.append(torch.autograd.grad(total, [*critic.parameters()]))
        torch.testing.assert_close(*grads, rtol=1e-4, atol=1e-5)
    if algo == "tqc":
        assert got.shape == (5, 2, 5)


@pytest.mark.parametrize("algo", CLASSES)
def test_exploration_is_paired_with_the_plain_run(make: Make, algo: str) -> None:
    drawn = []
    for prefix in ("", "SN"):
        model = of_kind(make, algo, "Mlp", prefix=prefix, learn=20)
        drawn.append((model.replay_buffer.actions[:20].copy(), torch.get_rng_state()))
    np.testing.assert_array_equal(drawn[0][0], drawn[1][0])
    assert torch.equal(drawn[0][1], drawn[1][1])


# --- The norm along training ----------------------------------------------------------------------

PACES = [
    ("tqc", {"tau": 0.3}),
    ("tqc", {"tau": 1.0, "target_update_interval": 4, "gradient_steps": 3}),
    ("crossq", {}),
    ("dqn", {"tau": 1.0, "target_update_interval": 5}),
    ("dqn", {"tau": 0.2, "target_update_interval": 2, "max_grad_norm": 0.1}),
]


@pytest.mark.parametrize(("algo", "pace"), PACES)
def test_every_evaluation_in_training_is_normalised(
    make: Make, watch: Make, algo: str, pace: dict[str, Any]
) -> None:
    options = {"sn_layers": (-2, -3), "sn_coef": 1.5}
    model = of_kind(make, algo, "Mlp", policy_kwargs=options, learning_rate=1e-2, **pace)
    seen = watch(model, layers=(-2, -3), coef=1.5)
    model.learn(60)
    assert seen.count("critic") >= 40
    assert (seen.count("critic_target") >= 40) == (algo != "crossq")


@pytest.mark.parametrize(
    ("algo", "targets"),
    # DQN's moves before an update at every third step; before step 24 it finds nothing changed.
    [("tqc", 30), ("crossq", 0), ("dqn", 9)],
)
def test_vectors_move_once_for_each_change_of_the_weights(
    make: Make, algo: str, targets: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = of_kind(make, algo, "Mlp", learning_rate=1e-3)
    moved: list[Any] = []
    refresh = SpectralNormalizer.refresh
    monkeypatch.setattr(
        SpectralNormalizer,
        "refresh",
        lambda self, layers=None: moved.append(layers[0]) or refresh(self, layers),
    )
    model.learn(50)
    assert model._n_updates == 30
    online = access.online_critic(model).normalized[0]
    assert sum(layer is online for layer in moved) == 30
    assert len(moved) == 30 + targets


@pytest.mark.parametrize("algo", CLASSES)
def test_bounds_hold(make: Make, algo: str) -> None:
    options = {"sn_layers": "all"} | ({"batch_norm": False} if algo == "crossq" else {})
    model = of_kind(make, algo, "Mlp", policy_kwargs=options, learn=40)
    critic = access.online_critic(model)
    bounds = critic_lipschitz(critic)
    assert bounds.keys() == ({"state"} if algo == "dqn" else {"state", "action", "state_action"})
    assert all(bound <= 1.02 for bound in bounds.values())
    _, (obs, *actions) = inputs(model, 20)
    moved = obs + 0.1 * torch.randn_like(obs)
    steps = (moved - obs).norm(dim=1)
    here, there = heads_of(critic, obs, *actions), heads_of(critic, moved, *actions)
    for one, other in zip(here, there, strict=True):
        slopes = (one - other).norm(dim=1) / steps
        assert (slopes > 0).all()
        assert (slopes <= bounds["state"]).all()


def heads_of(critic: Any, *given: Any) -> list[Tensor]:
    """All outputs of each head, shape ``(batch, outputs)``."""
    values = critic(*given)
    if isinstance(values, tuple):
        return [*values]
    return [values] if values.dim() == 2 else [*values.unbind(1)]


# --- Save, load, continue -------------------------------------------------------------------------


@pytest.mark.parametrize(("algo", "kind"), KINDS)
def test_a_saved_model_loads_predicts_alike_and_learns_on(
    make: Make, algo: str, kind: str, tmp_path: Path
) -> None:
    options = {"sn_coef": 1.5, "sn_features": kind == "Cnn" and algo == "tqc"}
    model = of_kind(make, algo, kind, policy_kwargs=options, learning_rate=1e-3, learn=32)
    model.save(tmp_path / "model.zip")
    model.save_replay_buffer(tmp_path / "buffer.pkl")
    loaded = CLASSES[algo].load(tmp_path / "model.zip", env=model.get_env(), device="cpu")
    assert type(loaded.policy) is type(model.policy)
    assert_same_state(model, loaded)
    for name, expected in evaluate(model).items():
        np.testing.assert_array_equal(evaluate(loaded)[name], expected)
    loaded.load_replay_buffer(tmp_path / "buffer.pkl")
    loaded.learn(10, reset_num_timesteps=False)
    assert loaded.num_timesteps == 42
    sigmas = loaded.policy.spectral.exact_sigmas().numpy()
    assert sigmas == pytest.approx(np.full(len(sigmas), 1.5), rel=1e-3)


@pytest.mark.parametrize("algo", CLASSES)
def test_training_continues_bit_identically_after_a_load(
    make: Make, algo: str, tmp_path: Path
) -> None:
    model = of_kind(make, algo, "Mlp", learning_rate=1e-3, learn=40)
    model.save(tmp_path / "model.zip")
    model.save_replay_buffer(tmp_path / "buffer.pkl")
    loaded = CLASSES[algo].load(tmp_path / "model.zip", device="cpu")
    loaded.load_replay_buffer(tmp_path / "buffer.pkl")
    for one in (model, loaded):
        one.set_env(make_vec_env("CartPole-v1" if algo == "dqn" else "Pendulum-v1", 1))
        one.set_random_seed(7)
        one.learn(30, reset_num_timesteps=False)
    assert_same_state(model, loaded)


@pytest.mark.parametrize("algo", CLASSES)
def test_parameters_are_gotten_and_set(make: Make, algo: str, assert_normalised: Make) -> None:
    source, model = of_kind(make, algo, "Mlp", learn=30), of_kind(make, algo, "Mlp", seed=9)
    parameters = copy.deepcopy(source.get_parameters())
    model.set_parameters(parameters)
    assert_same_state(source, model)
    assert_normalised(model)
    random = {
        name: torch.rand_like(value) if value.is_floating_point() else value
        for name, value in parameters["policy"].items()
        if not name.startswith("spectral.")
    }
    model.set_parameters({**parameters, "policy": random})
    assert_normalised(model)
    with pytest.raises(ValueError, match="do not match"):
        model.set_parameters({"policy": parameters["policy"]})


@pytest.mark.parametrize(("algo", "kind"), [("tqc", "Cnn"), ("crossq", "Mlp"), ("dqn", "Cnn")])
def test_a_plain_zip_arrives_whole(make: Make, algo: str, kind: str, tmp_path: Path) -> None:
    plain = of_kind(make, algo, kind, prefix="", learning_rate=1e-3, learn=32)
    plain.save(tmp_path / "plain.zip")
    policy = getattr(getattr(snrl, algo), f"{kind}Policy")
    loaded = CLASSES[algo].load(
        tmp_path / "plain.zip", custom_objects={"policy_class": policy}, device="cpu"
    )
    assert type(loaded.policy) is policy
    state = loaded.policy.state_dict()
    for name, value in plain.policy.state_dict().items():
        assert torch.equal(value, state[name]), name
    sigmas = loaded.policy.spectral.exact_sigmas().numpy()
    assert sigmas == pytest.approx(np.ones(len(sigmas)), rel=1e-5)
    moments = loaded.policy.critic_optimizer.state_dict()["state"]
    expected = plain.policy.optimizer if algo == "dqn" else plain.critic.optimizer
    for key, values in expected.state_dict()["state"].items():
        assert torch.equal(moments[key]["exp_avg"], values["exp_avg"])


@pytest.mark.parametrize("algo", CLASSES)
def test_a_policy_is_saved_and_loaded_alone(make: Make, algo: str, tmp_path: Path) -> None:
    options = {"critic": "sn+layer_norm", "sn_coef": 3.0, "sn_mode": "cap"}
    model = of_kind(make, algo, "Mlp", policy_kwargs=options, learn=30)
    model.policy.save(tmp_path / "policy.pth")
    loaded = type(model.policy).load(tmp_path / "policy.pth", device="cpu")
    _, given = inputs(model)
    model.policy.set_training_mode(False)
    loaded.set_training_mode(False)
    for suffix in ("", "_target"):
        one, other = access.critic_of(model.policy, suffix), access.critic_of(loaded, suffix)
        if one is not None:
            torch.testing.assert_close(one(*given), other(*given), rtol=0, atol=0)
    assert loaded.own_kwargs == model.policy.own_kwargs


# --- What else an algorithm may be set to ---------------------------------------------------------


@pytest.mark.parametrize("algo", CLASSES)
def test_norms_of_observations_and_memory_and_several_environments(
    make: Make, algo: str, assert_normalised: Make
) -> None:
    env_id = "CartPole-v1" if algo == "dqn" else "Pendulum-v1"
    env = VecNormalize(make_vec_env(env_id, 2))
    memory = {
        "optimize_memory_usage": True,
        "replay_buffer_kwargs": {"handle_timeout_termination": False},
    }
    for options in ({"env": env}, memory, {"n_steps": 3}):
        assert_normalised(make(algo, learn=40, **options))


@pytest.mark.parametrize("algo", CLASSES)
def test_runs_with_the_same_seed_are_the_same(make: Make, algo: str) -> None:
    assert_same_state(*(of_kind(make, algo, "Mlp", seed=4, learn=40) for _ in range(2)))


@pytest.mark.parametrize("algo", ["tqc", "dqn"])
def test_statistics_of_an_extractor_follow_the_mode(make: Make, algo: str) -> None:
    """As in sb3-contrib's and SB3's tests of the mode: prediction moves none, training all."""
    options = {"features_extractor_class": BatchNormExtractor}
    pace = {"target_update_interval": 1, "tau": 0.0}
    model = of_kind(make, algo, "Mlp", policy_kwargs=options, **pace)

    def statistics(critic: Any) -> Tensor:
        return critic.features_extractor.batch_norm.running_mean.clone()

    before = statistics(access.online_critic(model))
    model.learn(15)  # No update yet.
    obs = model.observation_space.sample()
    first = model.predict(obs, deterministic=True)[0]
    assert all(np.array_equal(model.predict(obs, deterministic=True)[0], first) for _ in range(3))
    assert torch.equal(statistics(access.online_critic(model)), before)
    model.learn(20, reset_num_timesteps=False)
    model._on_step()
    online, target = (statistics(critic) for critic in critics(model).values())
    assert not torch.equal(online, before)
    assert torch.equal(target, online)


# --- Folding --------------------------------------------------------------------------------------

# DQN's first, while sb3-contrib has not been imported either.
PLAIN_PROCESS = """
import sys
from pathlib import Path

class Blocker:
    blocked = {"snrl", "sb3_contrib"}

    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in self.blocked:
            raise ImportError(f"{name} is blocked")

sys.meta_path.insert(0, Blocker())
import numpy as np
from stable_baselines3 import DQN

def run(algorithm):
    for file in sorted(Path(sys.argv[1]).glob(f"{algorithm.__name__}-*.zip")):
        model = algorithm.load(file, device="cpu")
        obs = dict(np.load(file.with_suffix(".npz")))
        actions, _ = model.predict(obs.get("obs", obs), deterministic=True)
        np.save(file.with_suffix(".out.npy"), actions)

run(DQN)
Blocker.blocked.remove("sb3_contrib")
from sb3_contrib import TQC, CrossQ
run(TQC)
run(CrossQ)
print("done")
"""


@pytest.fixture(scope="module")
def folded(make: Make, tmp_path_factory: pytest.TempPathFactory) -> dict[Any, Any]:
    """Trained models, folded ones, and the folder of their zips."""
    folder = tmp_path_factory.mktemp("folded")
    found: dict[Any, Any] = {"folder": folder}
    for algo, kind in KINDS:
        options = {"sn_layers": "all", "sn_coef": 2.0} if kind != "MultiInput" else {}
        model = of_kind(make, algo, kind, policy_kwargs=options, learning_rate=1e-3, learn=32)
        plain = snrl.fold_spectral_norm(model)
        found[algo, kind] = model, plain
        file = folder / f"{type(model).__name__}-{kind}.zip"
        plain.save(file)
        obs, _ = inputs(model)
        np.savez(file.with_suffix(".npz"), **(obs if isinstance(obs, dict) else {"obs": obs}))
    return found


@pytest.mark.parametrize(("algo", "kind"), KINDS)
def test_a_folded_model_is_the_stock_one_and_computes_the_same(
    folded: dict[Any, Any], algo: str, kind: str
) -> None:
    model, plain = folded[algo, kind]
    assert type(plain.policy) is plain.policy_class is getattr(STOCK[algo], f"{kind}Policy")
    assert all(type(critic) is CRITICS[algo] for critic in critics(plain).values())
    assert not any(
        isinstance(x, SpectralLayer | SpectralNormalizer) for x in plain.policy.modules()
    )
    assert not any(name.startswith("sn_") for name in plain.policy_kwargs)
    for name, expected in evaluate(model).items():
        np.testing.assert_allclose(evaluate(plain)[name], expected, rtol=1e-4, atol=1e-5)


def test_folded_zips_load_in_a_process_without_snrl(folded: dict[Any, Any]) -> None:
    folder = folded["folder"]
    command = [sys.executable, "-c", PLAIN_PROCESS, str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=folder, check=False)
    assert done.stdout == "done\n", done.stderr
    for key in KINDS:
        model, _ = folded[key]
        there = np.load(folder / f"{type(model).__name__}-{key[1]}.out.npy")
        np.testing.assert_allclose(there, evaluate(model)["actions"], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("algo", CLASSES)
def test_a_folded_model_trains_on(folded: dict[Any, Any], algo: str) -> None:
    _, plain = folded[algo, "Mlp"]
    plain.train(10, batch_size=16)
    head = access.heads(access.online_critic(plain))[0]
    first = next(x for x in head if isinstance(x, nn.Linear))
    norm = torch.linalg.matrix_norm(first.weight.detach(), 2).item()
    assert abs(norm - 2) > 1e-4  # Nothing holds it any more.
