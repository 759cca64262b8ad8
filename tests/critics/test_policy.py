"""The policies: normalised at every use, paired with plain SB3, options, copies and vectors."""

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import stable_baselines3 as sb3
import torch
from stable_baselines3.common.envs import FakeImageEnv, SimpleMultiObsEnv
from stable_baselines3.common.noise import NormalActionNoise
from torch import Tensor, nn

import snrl
from snrl.critics import SpectralCritic, SpectralPolicy

Make = Callable[..., Any]
ALGOS = ["sac", "td3"]
FAST = {"buffer_size": 500, "batch_size": 16, "learning_starts": 20}


def image_env() -> FakeImageEnv:
    return FakeImageEnv(discrete=False, screen_height=36, screen_width=36)


def dict_env() -> SimpleMultiObsEnv:
    return SimpleMultiObsEnv(discrete_actions=False)


# --- The norm, each time a critic or target is evaluated ------------------------------------------


@pytest.mark.parametrize("algo", ALGOS)
@pytest.mark.parametrize("learning_rate", [3e-4, 1e-3])
@pytest.mark.parametrize("layers", [(-2,), "hidden", "all"])
def test_every_evaluation_of_critic_and_target_is_normalised(
    make: Make, watch: Make, assert_normalised: Make, algo: str, learning_rate: float, layers: Any
) -> None:
    model = make(
        algo,
        learning_rate=learning_rate,
        batch_size=32,
        policy_kwargs={"net_arch": [64, 64, 64], "sn_layers": layers},
    )
    seen = watch(model, layers)
    model.learn(20 + 150)
    assert model._n_updates >= 149
    assert seen.count("critic_target") >= 149
    assert seen.count("critic") >= 149
    assert_normalised(model, layers)


@pytest.mark.parametrize("algo", ALGOS)
def test_wide_networks_are_normalised_at_the_larger_rate(
    make: Make, watch: Make, assert_normalised: Make, algo: str
) -> None:
    model = make(
        algo,
        learning_rate=1e-3,
        batch_size=64,
        learning_starts=30,
        policy_kwargs={"net_arch": {"pi": [32], "qf": [256, 256, 256]}},
    )
    model.learn(30)
    for _ in range(6):
        model.learn(25, reset_num_timesteps=False)
        assert_normalised(model)
    seen = watch(model)
    model.train(4, batch_size=64)
    assert seen.count("critic_target") == 4
    assert_normalised(model)


@pytest.mark.parametrize(
    ("algo", "options"),
    [
        ("sac", {"tau": 1.0}),
        ("sac", {"tau": 1.0, "target_update_interval": 5, "gradient_steps": 12}),
        ("sac", {"tau": 0.3, "target_update_interval": 3, "gradient_steps": 7}),
        ("sac", {"tau": 0.0}),
        ("td3", {"tau": 1.0}),
        ("td3", {"tau": 1.0, "policy_delay": 5}),
        ("td3", {"tau": 0.3, "policy_delay": 1}),
        ("td3", {"tau": 0.0}),
        ("ddpg", {}),
        ("ddpg", {"tau": 1.0}),
    ],
)
def test_every_way_to_update_the_target_keeps_it_normalised(
    make: Make, watch: Make, algo: str, options: dict[str, Any]
) -> None:
    coef = 0.25
    model = make(
        algo,
        learning_rate=3e-3,
        train_freq=4 if "gradient_steps" in options else 1,
        policy_kwargs={"sn_coef": coef, "sn_layers": "all"},
        **options,
    )
    seen = watch(model, "all", coef)
    model.learn(60)
    assert seen.count("critic_target") >= 39


@pytest.mark.parametrize("algo", ALGOS)
def test_a_rate_of_zero_or_a_single_vector_is_no_exception(
    make: Make, watch: Make, algo: str
) -> None:
    # A single vector is the coarsest estimator there is.
    for options, rtol in (
        ({"block_size": 1}, 5e-2),
        ({"n_power_iterations": 3}, 1e-2),
        ({"block_size": 64}, 1e-2),
    ):
        model = make(algo, learning_rate=1e-3, policy_kwargs=options)
        seen = watch(model, rtol=rtol)
        model.learn(50)
        assert len(seen) > 50
    seen = watch(model := make(algo, learning_rate=0.0))
    model.learn(40)
    assert len(seen) > 30


@pytest.mark.parametrize("algo", ALGOS)
@pytest.mark.parametrize("n_critics", [1, 2, 3, 5])
def test_any_number_of_critics_is_normalised(
    make: Make, watch: Make, algo: str, n_critics: int
) -> None:
    model = make(algo, policy_kwargs={"n_critics": n_critics})
    assert len(model.critic.q_networks) == n_critics
    seen = watch(model)
    model.learn(40)
    assert len(seen) > 30


@pytest.mark.parametrize("algo", ALGOS)
@pytest.mark.parametrize(
    ("policy", "env"), [("SNCnnPolicy", image_env), ("SNMultiInputPolicy", dict_env)]
)
@pytest.mark.parametrize("share", [False, True])
def test_heads_on_features_extractors_are_normalised(
    make: Make, watch: Make, algo: str, policy: str, env: Make, share: bool
) -> None:
    width = "features_dim" if policy == "SNCnnPolicy" else "cnn_output_dim"
    options = {"features_extractor_kwargs": {width: 16}, "share_features_extractor": share}
    model = make(algo, policy, env(), buffer_size=60, policy_kwargs=options)
    seen = watch(model)
    model.learn(32)
    assert len(seen) >= 20


# --- Paired seeds ---------------------------------------------------------------------------------


@pytest.mark.parametrize("algo", ALGOS)
@pytest.mark.parametrize("layers", [(-2,), "all"])
def test_a_run_and_its_plain_twin_start_alike(make: Make, algo: str, layers: Any) -> None:
    """Weights, states of the generators, noise and first transitions, all bit for bit."""
    twins = []
    for policy in ("MlpPolicy", "SNMlpPolicy"):
        options = {} if policy == "MlpPolicy" else {"sn_layers": layers}
        noise = NormalActionNoise(np.zeros(1), 0.1 * np.ones(1))
        model = make(algo, policy, seed=3, action_noise=noise, policy_kwargs=options)
        weights = {k: v.clone() for k, v in model.policy.named_parameters()}
        generators = (torch.get_rng_state(), np.random.get_state()[1].copy())
        model.learn(20)
        buffer = model.replay_buffer
        first = [
            array[:20].copy()
            for array in (
                buffer.observations,
                buffer.next_observations,
                buffer.actions,
                buffer.rewards,
                buffer.dones,
            )
        ]
        model.learn(20, reset_num_timesteps=False)
        twins.append((weights, generators, first, torch.get_rng_state(), np.random.get_state()[1]))
    plain, normalised = twins
    assert plain[0].keys() == normalised[0].keys()
    assert all(torch.equal(value, normalised[0][name]) for name, value in plain[0].items())
    assert torch.equal(plain[1][0], normalised[1][0])
    np.testing.assert_array_equal(plain[1][1], normalised[1][1])
    for one, other in zip(plain[2], normalised[2], strict=True):
        np.testing.assert_array_equal(one, other)
    # As many draws in the updates, too: the noise that follows is the same.
    assert torch.equal(plain[3], normalised[3])
    np.testing.assert_array_equal(plain[4], normalised[4])


@pytest.mark.parametrize("policy", ["CnnPolicy", "MultiInputPolicy"])
@pytest.mark.parametrize("algo", ALGOS)
def test_policies_with_extractors_start_from_the_plain_weights(
    make: Make, algo: str, policy: str
) -> None:
    env = image_env() if policy == "CnnPolicy" else dict_env()
    options = {} if policy == "CnnPolicy" else {"sn_features": True}
    plain = make(algo, policy, env, buffer_size=10)
    state = torch.get_rng_state()
    normalised = make(algo, f"SN{policy}", env, buffer_size=10, policy_kwargs=options)
    assert torch.equal(torch.get_rng_state(), state)
    expected = dict(plain.policy.named_parameters())
    got = dict(normalised.policy.named_parameters())
    assert list(got) == list(expected)
    assert all(torch.equal(value, got[name]) for name, value in expected.items())


# --- Options --------------------------------------------------------------------------------------


@pytest.mark.parametrize("algo", ALGOS)
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"sn_layers": (-4,)}, r"-4.*3 layers.*-3"),
        ({"sn_layers": (0,)}, r"negative.*got 0"),
        ({"sn_layers": (1,)}, r"negative.*got 1"),
        ({"sn_layers": (-1.0,)}, r"negative integers.*got -1\.0"),
        ({"sn_layers": (-2, -2)}, r"once.*\(-2, -2\)"),
        ({"sn_layers": ()}, r"negative indices.*got \(\)"),
        ({"sn_layers": "last"}, r"hidden.*all.*got 'last'"),
        ({"sn_layers": "hidden", "net_arch": [8]}, r"selects none.*2 layers"),
        ({"sn_layers": (-2,), "net_arch": []}, r"-2.*1 layer"),
        ({"sn_coef": 0}, r"positive.*got 0"),
        ({"sn_coef": -1.0}, r"positive.*got -1"),
        ({"sn_coef": float("nan")}, r"positive.*got nan"),
        ({"sn_coef": float("inf")}, r"positive.*got inf"),
        ({"sn_coef": "1"}, r"positive.*got '1'"),
        ({"block_size": 0}, r"block_size.*positive.*got 0"),
        ({"block_size": 2.0}, r"block_size.*positive integer.*got 2\.0"),
        ({"n_power_iterations": 0}, r"n_power_iterations.*positive.*got 0"),
        ({"n_power_iterations": True}, r"n_power_iterations.*positive.*got True"),
        ({"sn_features": True, "share_features_extractor": True}, r"share_features_extractor=True"),
        ({"sn_features": True}, r"Linear or Conv.*FlattenExtractor"),
    ],
)
def test_an_option_that_does_not_fit_is_named_with_what_does(
    make: Make, algo: str, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        make(algo, policy_kwargs=options)


@pytest.mark.parametrize("algo", ALGOS)
def test_a_layer_selection_that_is_a_bare_number_is_a_value_error(make: Make, algo: str) -> None:
    with pytest.raises(ValueError, match="-2"):
        make(algo, policy_kwargs={"sn_layers": -2})


@pytest.mark.parametrize("algo", ALGOS)
def test_a_dict_space_needs_the_multi_input_policy(make: Make, algo: str) -> None:
    with pytest.raises(ValueError, match="SNMultiInputPolicy"):
        make(algo, "SNMlpPolicy", dict_env())


@pytest.mark.parametrize("algo", ALGOS)
def test_options_may_be_lists_and_integers_as_a_yaml_file_has_them(
    make: Make, algo: str, assert_normalised: Make
) -> None:
    model = make(algo, policy_kwargs={"sn_layers": [-2, -1], "sn_coef": 2}, learn=25)
    assert_normalised(model, (-1, -2), 2.0)


@pytest.mark.parametrize(("algo", "policy"), [("sac", "SNSACPolicy"), ("td3", "SNTD3Policy")])
def test_names_at_the_top_are_the_policies(make: Make, algo: str, policy: str) -> None:
    model = make(algo, getattr(snrl, policy))
    assert type(model.policy) is type(make(algo).policy)
    assert isinstance(model.policy, SpectralPolicy)
    assert isinstance(model.critic, SpectralCritic)
    assert isinstance(model.critic_target, SpectralCritic)


# --- Copies, optimisers, vectors, policy files ----------------------------------------------------


def step(policy: Any, optimizer: torch.optim.Optimizer, rate: int = 1) -> None:
    """One step of regression, all networks alike."""
    obs = torch.randn(16, 3)
    values = torch.cat(policy.critic(obs, torch.rand(16, 1) * 2 - 1), 1)
    loss = (values - rate * obs.sum(1, keepdim=True) * 20).square().mean()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()


@pytest.mark.parametrize("algo", ALGOS)
def test_a_deep_copy_trains_normalised_and_apart(
    make: Make, algo: str, assert_normalised: Make
) -> None:
    policy = make(algo).policy
    other = copy.deepcopy(policy)
    before = copy.deepcopy(policy.state_dict())
    for _ in range(20):
        step(other, other.critic.optimizer)
        assert_normalised(other)
    for name, value in policy.state_dict().items():
        assert torch.equal(value, before[name]), name
    optimizer = torch.optim.Adam(other.critic.parameters(), lr=1e-2)
    for _ in range(20):
        step(other, optimizer)
        assert_normalised(other)
    for _ in range(5):
        step(policy, policy.critic.optimizer)
        assert_normalised(policy)


@pytest.mark.parametrize("algo", ALGOS)
@pytest.mark.parametrize(
    "optimizer",
    [
        lambda p: torch.optim.SGD(p, lr=1e-3, momentum=0.9),
        lambda p: torch.optim.RMSprop(p, lr=1e-3),
        lambda p: torch.optim.AdamW(p, lr=1e-2, weight_decay=0.1),
    ],
)
def test_a_replaced_optimiser_keeps_the_critic_normalised(
    make: Make, algo: str, optimizer: Make, watch: Make
) -> None:
    model = make(algo, learn=25)
    model.critic.optimizer = optimizer(model.critic.parameters())
    seen = watch(model)
    model.learn(25, reset_num_timesteps=False)
    assert len(seen) >= 25


@pytest.mark.parametrize("algo", ALGOS)
def test_an_optimiser_of_the_policy_file_is_followed(make: Make, algo: str, watch: Make) -> None:
    options = {"optimizer_class": torch.optim.RMSprop, "optimizer_kwargs": {"alpha": 0.9}}
    seen = watch(model := make(algo, learning_rate=1e-3, policy_kwargs=options))
    model.learn(40)
    assert len(seen) > 30


@pytest.mark.parametrize("algo", ALGOS)
def test_policy_vectors_go_out_and_in(make: Make, algo: str, assert_normalised: Make) -> None:
    plain, source, model = make(algo, "MlpPolicy"), make(algo, seed=5), make(algo)
    vector = source.policy.parameters_to_vector()
    assert vector.shape == plain.policy.parameters_to_vector().shape
    model.policy.load_from_vector(vector)
    np.testing.assert_array_equal(model.policy.parameters_to_vector(), vector)
    assert_normalised(model.policy, rtol=1e-5)
    obs, actions = torch.randn(4, 3), torch.rand(4, 1)
    for one, other in zip(
        model.critic_target(obs, actions), source.critic_target(obs, actions), strict=True
    ):
        torch.testing.assert_close(one, other)


@pytest.mark.parametrize("algo", ALGOS)
def test_a_policy_file_keeps_weights_and_options(
    make: Make, algo: str, tmp_path: Path, assert_normalised: Make
) -> None:
    options = {
        "sn_layers": (-1, -2),
        "sn_coef": 0.5,
        "n_power_iterations": 2,
        "block_size": 3,
        "n_critics": 3,
    }
    model = make(algo, policy_kwargs=options, learn=40)
    model.policy.save(tmp_path / "policy.pth")
    loaded = type(model.policy).load(tmp_path / "policy.pth", device="cpu")
    state = model.policy.state_dict()
    assert state.keys() == loaded.state_dict().keys()
    assert all(torch.equal(value, state[name]) for name, value in loaded.state_dict().items())
    assert_normalised(loaded, (-1, -2), 0.5)
    for name, value in options.items():
        if name != "n_critics":
            assert loaded.own_kwargs[name] == value
    obs = model.observation_space.sample()
    np.testing.assert_array_equal(
        model.predict(obs, deterministic=True)[0], loaded.predict(obs, deterministic=True)[0]
    )
    inputs = torch.randn(4, 3), torch.rand(4, 1)
    for one, other in zip(model.critic(*inputs), loaded.critic(*inputs), strict=True):
        assert torch.equal(one, other)


@pytest.mark.parametrize("algo", ALGOS)
def test_critic_keys_of_a_state_dict_are_sb3s(make: Make, algo: str) -> None:
    plain, normalised = (make(algo, p).policy.state_dict() for p in ("MlpPolicy", "SNMlpPolicy"))
    extra = normalised.keys() - plain.keys()
    assert plain.keys() <= normalised.keys()
    assert extra
    assert all(name.startswith("spectral.") for name in extra)


# --- State dicts that do not go together ----------------------------------------------------------


@pytest.mark.parametrize("algo", ALGOS)
def test_vectors_of_other_layers_are_not_taken_for_these(
    make: Make, algo: str, assert_normalised: Make
) -> None:
    """As many vectors, of the same shape, but saved for another layer of the network."""
    arch = [32, 32, 32]
    source = make(algo, policy_kwargs={"net_arch": arch, "sn_layers": (-2,)}, learn=40)
    model = make(algo, policy_kwargs={"net_arch": arch, "sn_layers": (-3,)})
    model.set_parameters(source.get_parameters())
    assert_normalised(model, (-3,))


@pytest.mark.parametrize("algo", ALGOS)
def test_vectors_that_do_not_belong_to_the_weights_are_not_trusted(
    make: Make, algo: str, assert_normalised: Make
) -> None:
    """SB3's own test of saving loads random numbers for every entry of the state dict."""
    model = make(algo, learn=25)
    generator = torch.Generator().manual_seed(0)
    state = {
        name: torch.rand(value.shape, generator=generator)
        for name, value in model.policy.state_dict().items()
    }
    model.policy.load_state_dict(state)
    assert_normalised(model)


@pytest.mark.parametrize("algo", ALGOS)
def test_weights_without_their_vectors_or_with_stale_ones_are_normalised(
    make: Make, algo: str, assert_normalised: Make
) -> None:
    stale = make(algo, seed=1).policy.state_dict()
    fresh = make(algo, seed=2, learn=40).policy.state_dict()
    mixed = {k: stale[k] if k.startswith("spectral.") else v for k, v in fresh.items()}
    weights = {k: v for k, v in fresh.items() if not k.startswith("spectral.")}
    for state in (weights, mixed):
        model = make(algo)
        model.policy.load_state_dict(state)
        assert_normalised(model)


@pytest.mark.parametrize("algo", ALGOS)
def test_a_part_of_a_state_dict_leaves_the_rest_normalised(
    make: Make, algo: str, assert_normalised: Make
) -> None:
    fresh = make(algo, seed=2, learn=40).policy.state_dict()
    model = make(algo)
    part = {k: v for k, v in fresh.items() if k.startswith("critic.qf1")}
    model.policy.load_state_dict(part, strict=False)
    assert_normalised(model)
    assert torch.equal(model.critic.qf1[2].weight, fresh["critic.qf1.2.weight"])


@pytest.mark.parametrize("algo", ALGOS)
def test_a_state_dict_that_lacks_a_weight_is_refused(make: Make, algo: str) -> None:
    state = make(algo).policy.state_dict()
    del state["critic_target.qf0.2.weight"]
    with pytest.raises(RuntimeError, match="Missing key"):
        make(algo).policy.load_state_dict(state)


# --- dtype and device -----------------------------------------------------------------------------


def test_double_precision_throughout(make: Make, applied: Make) -> None:
    policy = make("sac").policy.double()
    optimizer = torch.optim.Adam(policy.critic.parameters(), lr=1e-3)
    for _ in range(5):
        obs, actions = torch.randn(8, 3).double(), torch.rand(8, 1).double()
        values: Tensor = torch.cat(policy.critic(obs, actions))
        assert values.dtype == torch.float64
        optimizer.zero_grad()
        values.square().sum().backward()
        optimizer.step()
    assert all(buffer.dtype == torch.float64 for buffer in policy.spectral.buffers())
    policy.spectral.reset()
    for network in policy.critic.q_networks:
        assert np.linalg.norm(applied(network[2]), 2) == pytest.approx(1, rel=1e-12)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("algo", ALGOS)
def test_a_gpu_run_is_normalised_and_loads_on_the_cpu(
    make: Make, algo: str, watch: Make, tmp_path: Path, assert_normalised: Make
) -> None:
    model = make(algo, device="cuda")
    assert {x.device.type for x in model.policy.state_dict().values()} == {"cuda"}
    seen = watch(model)
    model.learn(60)
    assert len(seen) > 50
    model.save(tmp_path / "model.zip")
    loaded = type(model).load(tmp_path / "model.zip", device="cpu")
    assert {x.device.type for x in loaded.policy.state_dict().values()} == {"cpu"}
    assert_normalised(loaded)


def test_layers_keep_being_linear_modules(make: Make) -> None:
    critic = make("sac", policy_kwargs={"sn_layers": "all"}).critic
    assert [isinstance(module, nn.Linear) for module in critic.q_networks[0]] == [
        True,
        False,
        True,
        False,
        True,
    ]


@pytest.mark.parametrize("algorithm", [sb3.SAC, sb3.TD3])
@pytest.mark.parametrize("mode", [True, False])
def test_modes_are_those_that_sb3_sets(algorithm: Any, mode: bool) -> None:
    class Own(nn.ReLU):
        """A module with a mode of its own."""

        def train(self, mode: bool = True) -> Any:
            self.asked = mode
            return super().train(not mode)

    found = []
    for policy in ("MlpPolicy", "SNMlpPolicy"):
        model = algorithm(policy, "Pendulum-v1", policy_kwargs={"activation_fn": Own}, device="cpu")
        model.policy.set_training_mode(not mode)
        model.policy.set_training_mode(mode)
        modules = model.policy.named_modules()
        found.append({k: x.training for k, x in modules if "spectral" not in k})
        own = [x for x in model.actor.modules() if isinstance(x, Own)]
        assert [x.asked for x in own] == 2 * [mode]
    assert found[0] == found[1]
