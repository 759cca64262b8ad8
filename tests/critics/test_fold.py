"""A folded policy is SB3's own, computes the same, and needs no ``snrl`` to be loaded."""

import copy
import pickle
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from stable_baselines3 import SAC, TD3
from stable_baselines3.common.envs import FakeImageEnv, SimpleMultiObsEnv
from stable_baselines3.common.policies import ContinuousCritic
from stable_baselines3.sac import policies as sac_policies
from stable_baselines3.td3 import policies as td3_policies
from torch import Tensor

import snrl
from snrl.critics.stabilizers import STABILIZERS
from snrl.spectral import SpectralLayer, SpectralNormalizer

from .extractors import BatchNormExtractor

Make = Callable[..., Any]
KINDS = [(algo, kind) for algo in ("sac", "td3") for kind in ("Mlp", "Cnn", "MultiInput")]
HOMES = {"sac": sac_policies, "td3": td3_policies}

# Loads each zip where ``snrl`` cannot be imported, and writes down what the model computes.
PLAIN_PROCESS = """
import sys
from pathlib import Path

class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "snrl":
            raise ImportError("snrl is blocked")

sys.meta_path.insert(0, Blocker())

import numpy as np
import torch
from stable_baselines3 import SAC, TD3
from stable_baselines3.common.utils import obs_as_tensor

for file in sorted(Path(sys.argv[1]).glob("*.zip")):
    model = {"sac": SAC, "td3": TD3}[file.stem.partition("-")[0]].load(file, device="cpu")
    assert type(model.policy).__module__.startswith("stable_baselines3."), type(model.policy)
    given = dict(np.load(file.with_suffix(".in.npz")))
    taken = given.pop("actions")
    obs = given.pop("obs") if "obs" in given else given
    actions, _ = model.predict(obs, deterministic=True)
    tensors = obs_as_tensor(obs, "cpu") if isinstance(obs, dict) else torch.as_tensor(obs)
    with torch.no_grad():
        online, target = (
            torch.stack(critic(tensors, torch.as_tensor(taken))).numpy()
            for critic in (model.critic, model.critic_target)
        )
    np.savez(file.with_suffix(".out.npz"), actions=actions, online=online, target=target)
assert "snrl" not in sys.modules
print("done")
"""


def trained(make: Make, algo: str, kind: str) -> Any:
    """A trained model, all of whose kinds of layers are normalised, on a task of that kind."""
    if kind == "Mlp":
        return make(algo, policy_kwargs={"sn_layers": "all", "sn_coef": 2.0}, learn=60)
    if kind == "Cnn":
        env: Any = FakeImageEnv(
            discrete=False, screen_height=36, screen_width=36, channel_first=True
        )
        width = "features_dim"
    else:
        env, width = SimpleMultiObsEnv(discrete_actions=False, channel_last=False), "cnn_output_dim"
    options = {"features_extractor_kwargs": {width: 16}, "sn_features": kind == "Cnn"}
    policy = f"SN{kind}Policy"
    return make(algo, policy, env, buffer_size=60, tau=0.5, policy_kwargs=options, learn=32)


def evaluate(model: Any, obs: Any, taken: np.ndarray) -> dict[str, np.ndarray]:
    tensors, _ = model.policy.obs_to_tensor(obs)
    with torch.no_grad():
        online, target = (
            torch.stack(critic(tensors, torch.as_tensor(taken))).numpy()
            for critic in (model.critic, model.critic_target)
        )
    actions, _ = model.predict(obs, deterministic=True)
    return {"actions": actions, "online": online, "target": target}


def sample(model: Any, rows: int = 5) -> tuple[Any, np.ndarray]:
    model.observation_space.seed(0)
    drawn = [model.observation_space.sample() for _ in range(rows)]
    taken = np.random.default_rng(0).uniform(-1, 1, (rows, *model.action_space.shape))
    if isinstance(drawn[0], dict):
        return {k: np.stack([x[k] for x in drawn]) for k in drawn[0]}, taken.astype(np.float32)
    return np.stack(drawn), taken.astype(np.float32)


@pytest.fixture(scope="module")
def in_a_plain_process(make: Make, tmp_path_factory: pytest.TempPathFactory) -> dict[Any, Any]:
    """For each kind: what the model computes here, and its folded zip in the other process."""
    folder = tmp_path_factory.mktemp("folded")
    here = {}
    for algo, kind in KINDS:
        model = trained(make, algo, kind)
        obs, taken = sample(model)
        here[algo, kind] = evaluate(model, obs, taken)
        file = folder / f"{algo}-{kind}.zip"
        snrl.fold_spectral_norm(model).save(file)
        np.savez(
            file.with_suffix(".in.npz"),
            actions=taken,
            **(obs if isinstance(obs, dict) else {"obs": obs}),
        )
    done = subprocess.run(
        [sys.executable, "-c", PLAIN_PROCESS, str(folder)],
        capture_output=True,
        text=True,
        cwd=folder,
        check=False,
    )
    assert done.stdout == "done\n", done.stderr
    return {
        key: (values, dict(np.load(folder / f"{key[0]}-{key[1]}.out.npz")))
        for key, values in here.items()
    }


@pytest.mark.parametrize(("algo", "kind"), KINDS)
def test_a_folded_zip_computes_the_same_in_a_process_without_snrl(
    in_a_plain_process: dict[Any, Any], algo: str, kind: str
) -> None:
    here, there = in_a_plain_process[algo, kind]
    for name, expected in here.items():
        np.testing.assert_allclose(there[name], expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(("algo", "kind"), KINDS)
def test_a_folded_model_is_sb3s_and_leaves_the_original_as_it_was(
    make: Make, algo: str, kind: str
) -> None:
    model = trained(make, algo, kind)
    obs, taken = sample(model)
    before, state = evaluate(model, obs, taken), copy.deepcopy(model.policy.state_dict())
    folded = snrl.fold_spectral_norm(model)

    expected_class = getattr(HOMES[algo], f"{kind}Policy")
    assert type(folded) is type(model)
    assert type(folded.policy) is folded.policy_class is expected_class
    for critic in (folded.critic, folded.critic_target):
        assert type(critic) is ContinuousCritic
    assert not any(
        isinstance(x, SpectralLayer | SpectralNormalizer) for x in folded.policy.modules()
    )
    assert not any(name.startswith("sn_") for name in folded.policy_kwargs)
    assert folded.actor is folded.policy.actor
    assert folded.critic is folded.policy.critic
    fresh = expected_class(
        folded.observation_space, folded.action_space, lambda _: 0.0, **folded.policy_kwargs
    )
    assert folded.policy.state_dict().keys() == fresh.state_dict().keys()
    for name, value in evaluate(folded, obs, taken).items():
        np.testing.assert_allclose(value, before[name], rtol=1e-5, atol=1e-5)

    assert {type(x) for x in (model.critic, model.critic_target)} != {ContinuousCritic}
    assert all(torch.equal(v, state[k]) for k, v in model.policy.state_dict().items())
    for name, value in evaluate(model, obs, taken).items():
        np.testing.assert_array_equal(value, before[name])


@pytest.mark.parametrize("algo", ["sac", "td3"])
def test_a_folded_model_trains_on_as_a_plain_one_does(
    make: Make, algo: str, tmp_path: Path, applied: Make
) -> None:
    model = make(algo, learning_rate=1e-2, learn=60)
    folded = snrl.fold_spectral_norm(model)
    lr = {group["lr"] for group in folded.critic.optimizer.param_groups}
    assert lr == {group["lr"] for group in model.critic.optimizer.param_groups}
    held = [p for group in folded.critic.optimizer.param_groups for p in group["params"]]
    assert {id(p) for p in held} == {id(p) for p in folded.critic.parameters()}
    folded.save(tmp_path / "folded.zip")
    loaded = {"sac": SAC, "td3": TD3}[algo].load(tmp_path / "folded.zip", env=model.get_env())
    for plain in (folded, loaded):
        before = copy.deepcopy(plain.policy.state_dict())
        plain.learn(40)
        after = plain.policy.state_dict()
        assert not torch.equal(after["critic.qf0.2.weight"], before["critic.qf0.2.weight"])
        weight = plain.critic.q_networks[0][2].weight.detach().numpy()
        norm = np.linalg.norm(weight, 2)
        assert abs(norm - 1) > 1e-3  # Nothing holds it any more.
        np.testing.assert_allclose(applied(plain.critic.q_networks[0][2]), weight, atol=1e-5)


@pytest.mark.parametrize("algo", ["sac", "td3"])
def test_training_a_folded_model_leaves_the_originals_learnt_state(make: Make, algo: str) -> None:
    """All but what the two are said to share: environment and replay buffer."""
    options = {"features_extractor_class": BatchNormExtractor}
    model = make(algo, learning_rate=1e-2, policy_kwargs=options, learn=40)

    def learnt(owner: Any) -> dict[str, Tensor]:
        state = {k: v.clone() for k, v in owner.policy.state_dict().items()}
        if algo == "sac":
            state["log_ent_coef"] = owner.log_ent_coef.detach().clone()
        return state

    before = learnt(model)
    folded = snrl.fold_spectral_norm(model)
    folded.tau = 0.5
    folded.train(6, batch_size=16)
    changed = [k for k, v in learnt(model).items() if not torch.equal(v, before[k])]
    assert changed == []


@pytest.mark.parametrize("algo", ["sac", "td3"])
def test_batch_statistics_of_a_folded_model_reach_its_own_target(make: Make, algo: str) -> None:
    """SB3 copies the running statistics to the target after each update (issue 996)."""
    options = {"features_extractor_class": BatchNormExtractor}
    folded = snrl.fold_spectral_norm(make(algo, policy_kwargs=options, learn=40))
    folded.policy_delay = 1
    folded.train(3, batch_size=16)
    online = dict(folded.critic.features_extractor.named_buffers())
    target = dict(folded.critic_target.features_extractor.named_buffers())
    assert torch.equal(online["batch_norm.running_mean"], target["batch_norm.running_mean"])


@pytest.mark.parametrize("algo", ["sac", "td3"])
@pytest.mark.parametrize("share", [True, False])
def test_a_folded_critic_optimiser_holds_what_sb3s_holds(
    make: Make, algo: str, share: bool
) -> None:
    env = FakeImageEnv(discrete=False, screen_height=36, screen_width=36)
    options = {"share_features_extractor": share, "features_extractor_kwargs": {"features_dim": 8}}
    plain = make(algo, "CnnPolicy", env, buffer_size=10, policy_kwargs=options)
    folded = snrl.fold_spectral_norm(
        make(algo, "SNCnnPolicy", env, buffer_size=10, policy_kwargs=options)
    )

    def held(model: Any) -> list[str]:
        names = {id(p): name for name, p in model.critic.named_parameters()}
        groups = model.critic.optimizer.param_groups
        return [names[id(p)] for group in groups for p in group["params"]]

    assert held(folded) == held(plain)
    if share:
        assert folded.actor.features_extractor is folded.critic.features_extractor


@pytest.mark.parametrize("algo", ["sac", "td3"])
def test_a_folded_policy_is_saved_and_loaded_by_sb3s_class(
    make: Make, algo: str, tmp_path: Path
) -> None:
    policy = make(algo, learn=30).policy
    folded = snrl.fold_spectral_norm(policy)
    plain_class = getattr(HOMES[algo], "MlpPolicy")  # noqa: B009  (a module, not an object)
    assert type(folded) is plain_class
    # Nor does anything inside come from here.
    assert b"snrl" not in pickle.dumps(folded.critic)
    folded.save(tmp_path / "policy.pth")
    loaded = plain_class.load(tmp_path / "policy.pth", device="cpu")
    obs, actions = torch.randn(6, 3), torch.rand(6, 1)
    for one, other in zip(
        loaded.critic_target(obs, actions), policy.critic_target(obs, actions), strict=True
    ):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-5)


def test_folding_a_plain_model_changes_nothing_and_shares_no_weights(make: Make) -> None:
    model = make("sac", "MlpPolicy", learn=30)
    before = copy.deepcopy(model.policy.state_dict())
    folded = snrl.fold_spectral_norm(model)
    assert type(folded.policy) is type(model.policy)
    folded.train(2, batch_size=16)
    assert all(torch.equal(v, before[k]) for k, v in model.policy.state_dict().items())


def test_a_policy_class_of_the_users_own_folds_to_its_plain_base(make: Make) -> None:
    class OwnPolicy(snrl.SNSACPolicy):
        """A subclass, as a user may write it."""

    folded = snrl.fold_spectral_norm(make("sac", OwnPolicy))
    assert type(folded.policy) is sac_policies.SACPolicy


def test_a_model_with_gsde_folds_in_mid_training_and_both_go_on(make: Make) -> None:
    model = make("sac", use_sde=True, learn=30)
    folded = snrl.fold_spectral_norm(model)
    obs = np.random.default_rng(0).normal(size=(5, 3)).astype(np.float32)
    expected, _ = model.predict(obs, deterministic=True)
    np.testing.assert_array_equal(folded.predict(obs, deterministic=True)[0], expected)
    folded.learn(5)
    model.learn(5)


def test_training_a_folded_model_leaves_the_original_alone(make: Make) -> None:
    model = make("sac", learn=30)
    before = copy.deepcopy((model.policy.state_dict(), model.log_ent_coef))
    folded = snrl.fold_spectral_norm(model)
    folded.train(5, batch_size=16)
    assert not torch.equal(folded.log_ent_coef, before[1])
    assert torch.equal(model.log_ent_coef, before[1])
    assert all(torch.equal(v, before[0][k]) for k, v in model.policy.state_dict().items())


# --- Other stabilisers ----------------------------------------------------------------------------

OTHERS = [name for name in STABILIZERS if name not in ("sn", "batch_norm", "batch_renorm")]


@pytest.mark.parametrize("name", OTHERS)
def test_folding_keeps_the_other_stabilisers(make: Make, tmp_path: Path, name: str) -> None:
    layers = (-3, -2) if name in ("simba", "bro") else (-2, -1)
    options = {"critic": f"sn+{name}", "sn_layers": layers, "sn_coef": 0.7}
    model = make("td3", policy_kwargs=options, learn=32)
    obs, taken = sample(model)
    model.policy.set_training_mode(False)
    expected = evaluate(model, obs, taken)
    folded = snrl.fold_spectral_norm(model)
    assert not any(isinstance(x, SpectralLayer | SpectralNormalizer) for x in modules(folded))
    assert [x.name for x in folded.policy.stabilizers] == [name]
    assert folded.policy_kwargs["critic"] == name
    folded.save(tmp_path / "folded.zip")
    loaded = TD3.load(tmp_path / "folded.zip", device="cpu")
    for part in (folded, loaded):
        part.policy.set_training_mode(False)
        for key, values in evaluate(part, obs, taken).items():
            np.testing.assert_allclose(values, expected[key], rtol=1e-4, atol=1e-5)
    types = [[type(x) for x in modules(part)] for part in (folded, loaded)]
    assert types[0] == types[1]
    held = [len(x.critic.optimizer.param_groups[0]["params"]) for x in (folded, loaded)]
    assert held == [len(list(loaded.critic.parameters()))] * 2
    loaded.set_env(model.get_env())
    loaded.learn(25)


def modules(model: Any) -> list[Any]:
    return [*model.policy.modules()]
