"""Every mode in stock SB3: held online and in the target, saved, loaded, folded."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from stable_baselines3 import SAC, TD3
from stable_baselines3.common.envs import FakeImageEnv
from stable_baselines3.common.policies import ContinuousCritic
from torch import Tensor, nn

import snrl
from snrl.spectral.modes import MODES

Make = Callable[..., Any]
PLAIN = ("penalty", "penalty_to_coef", "div_grad", "div_out", "mul_eps", "layer_lr")
HELD = ("project", "hammer", "soft_cap")


def options(mode: str, **kwargs: Any) -> dict[str, Any]:
    coef = {"sn_coef": 0.8} if MODES[mode].uses_coef else {}
    return {"sn_layers": (-1, -2), "sn_mode": mode} | coef | kwargs


def batch(rows: int = 9) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    return torch.randn(rows, 3, generator=generator), torch.rand(rows, 1, generator=generator)


def values(critic: Any) -> Tensor:
    with torch.no_grad():
        return torch.stack(critic(*batch()))


def norms(critic: Any) -> np.ndarray:
    """What the normalised layers apply, by SVD."""
    return np.array(
        [np.linalg.norm(x.effective_weight().detach().numpy(), 2) for x in critic.normalized]
    )


def check(model: Any, mode: str) -> None:
    """The promise, online and in the target, as far as one look at a critic can tell."""
    for critic in (model.critic, model.critic_target):
        found = norms(critic)
        raw = np.array([np.linalg.norm(x.weight.detach().numpy(), 2) for x in critic.normalized])
        if mode in ("normalize", "bidirectional"):
            np.testing.assert_allclose(found, 0.8, rtol=1e-3)
        elif mode == "gain":
            gains = np.array([x.gain.item() for x in critic.normalized])
            np.testing.assert_allclose(found, 0.8 * abs(gains), rtol=1e-3)
        elif mode in PLAIN:
            np.testing.assert_array_equal(found, raw)
        else:
            assert (found <= 0.8 * (1 + 1.5e-3)).all()
        if mode in HELD:
            np.testing.assert_array_equal(found, raw)
        if mode == "div_out":
            divided = _by_hand(critic) / _products(raw)[:, None, None]
            torch.testing.assert_close(values(critic), divided, rtol=1e-3, atol=1e-5)
        elif mode in PLAIN + HELD:
            torch.testing.assert_close(values(critic), _by_hand(critic), rtol=1e-5, atol=1e-6)


def _by_hand(critic: Any) -> Tensor:
    """The values of the stored weights."""
    results = []
    with torch.no_grad():
        for network in critic.q_networks:
            x = torch.cat(batch(), 1)
            for module in network:
                linear = isinstance(module, nn.Linear)
                x = x @ module.weight.T + module.bias if linear else module(x)
            results.append(x)
    return torch.stack(results)


def _products(raw: np.ndarray) -> Tensor:
    """For each critic the product over its normalised layers, which lie layer by layer."""
    return torch.tensor((raw / 0.8).reshape(2, -1).prod(0), dtype=torch.float32)


@pytest.fixture(scope="module")
def trained(make: Make) -> Callable[[str], Any]:
    models: dict[str, Any] = {}

    def get(mode: str) -> Any:
        if mode not in models:
            models[mode] = make("sac", policy_kwargs=options(mode), learning_rate=1e-2, learn=60)
        return models[mode]

    return get


@pytest.mark.parametrize("algo", ["sac", "td3"])
@pytest.mark.parametrize("mode", MODES)
def test_held_from_the_first_update_on_online_and_in_the_target(
    make: Make, algo: str, mode: str
) -> None:
    model = make(algo, policy_kwargs=options(mode), learning_rate=1e-2, tau=0.1, learn=21)
    before = [x.weight.detach().clone() for x in model.critic.normalized]
    check(model, mode)
    for _ in range(15):
        model.train(1, batch_size=16)
        check(model, mode)
    assert not torch.equal(before[0], model.critic.normalized[0].weight)


@pytest.mark.parametrize("mode", MODES)
def test_a_saved_model_is_the_same_and_goes_on_the_same(
    trained: Callable[[str], Any], mode: str, tmp_path: Path
) -> None:
    model = trained(mode)
    model.save(tmp_path / "model.zip")
    model.save_replay_buffer(tmp_path / "buffer.pkl")
    loaded = SAC.load(tmp_path / "model.zip", env=model.get_env(), device="cpu")
    loaded.load_replay_buffer(tmp_path / "buffer.pkl")
    assert loaded.policy.own_kwargs == model.policy.own_kwargs
    assert loaded.policy.spectral.mode == model.policy.spectral.mode
    for state, own in zip(
        (loaded.policy.state_dict(), loaded.critic.optimizer.state_dict()["param_groups"]),
        (model.policy.state_dict(), model.critic.optimizer.state_dict()["param_groups"]),
        strict=True,
    ):
        if isinstance(state, list):
            assert state == own
        else:
            assert all(torch.equal(value, own[key]) for key, value in state.items())
    for each in (model, loaded):
        np.random.seed(0)
        torch.manual_seed(0)
        each.set_logger(model.logger)
        each.train(3, batch_size=16)
    for critic, own in zip(
        (loaded.critic, loaded.critic_target), (model.critic, model.critic_target), strict=True
    ):
        assert torch.equal(values(critic), values(own))
    check(loaded, mode)


@pytest.mark.parametrize("mode", MODES)
def test_a_folded_model_is_stock_sb3s_with_the_same_values(
    trained: Callable[[str], Any], mode: str, tmp_path: Path
) -> None:
    model = trained(mode)
    snrl.fold_spectral_norm(model).save(tmp_path / "folded.zip")
    plain = SAC.load(tmp_path / "folded.zip", env=model.get_env(), device="cpu")
    for critic, own in zip(
        (plain.critic, plain.critic_target), (model.critic, model.critic_target), strict=True
    ):
        assert type(critic) is ContinuousCritic
        torch.testing.assert_close(values(critic), values(own), rtol=1e-4, atol=1e-5)
    held = [p for group in plain.critic.optimizer.param_groups for p in group["params"]]
    assert [id(p) for p in held] == [id(p) for p in plain.critic.parameters()]
    check(model, mode)
    alone = snrl.fold_spectral_norm(model.critic_target)
    torch.testing.assert_close(values(alone), values(model.critic_target), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("mode", MODES)
def test_a_plain_model_loads_and_trains_on(make: Make, mode: str, tmp_path: Path) -> None:
    plain = make("sac", "MlpPolicy", learning_rate=1e-2, learn=40)
    plain.save(tmp_path / "plain.zip")
    model = make("sac", policy_kwargs=options(mode), learn=21)
    model.set_parameters(tmp_path / "plain.zip", device="cpu")
    check(model, mode)
    if mode not in HELD:
        state = model.policy.state_dict()
        for key, value in plain.policy.state_dict().items():
            assert torch.equal(value, state[key])
    moments = plain.critic.optimizer.state_dict()["state"]
    loaded = model.critic.optimizer.state_dict()["state"]
    assert torch.equal(moments[0]["exp_avg"], loaded[0]["exp_avg"])
    model.train(3, batch_size=16)
    check(model, mode)


@pytest.mark.parametrize("mode", MODES)
def test_it_starts_as_the_plain_model_does(make: Make, mode: str) -> None:
    plain = make("sac", "MlpPolicy")
    expected_draw = torch.rand(1)
    model = make("sac", policy_kwargs=options(mode))
    assert torch.equal(torch.rand(1), expected_draw)
    held = {
        id(layer.weight) for layer in (*model.critic.normalized, *model.critic_target.normalized)
    }
    ours = dict(model.policy.named_parameters())
    for name, parameter in plain.policy.named_parameters():
        if mode in HELD and id(ours[name]) in held:
            continue
        assert torch.equal(ours.pop(name), parameter)


def test_gains_are_the_critic_optimisers_and_averaged_into_the_target(make: Make) -> None:
    model = make("sac", policy_kwargs=options("gain"), learning_rate=1e-2, tau=0.1, learn=21)
    keys = [key for key in model.policy.state_dict() if key.endswith("gain")]
    assert keys == [
        f"{part}.qf{i}.{place}.gain"
        for part in ("critic", "critic_target")
        for i in (0, 1)
        for place in (2, 4)
    ]
    *_, group = model.critic.optimizer.param_groups
    online = model.critic.normalized
    assert [id(x) for x in group["params"]] == [id(layer.gain) for layer in online]
    target = torch.stack([layer.gain for layer in model.critic_target.normalized]).detach()
    for _ in range(5):
        model.train(1, batch_size=16)
        gains = torch.stack([layer.gain for layer in online]).detach()
        target = 0.9 * target + 0.1 * gains
        got = torch.stack([layer.gain for layer in model.critic_target.normalized]).detach()
        torch.testing.assert_close(got, target)
    assert (gains - 1).abs().min() > 1e-3
    # SB3 sets the learning rate of all groups.
    model.lr_schedule = lambda _: 0.123
    model.train(1, batch_size=16)
    assert {each["lr"] for each in model.critic.optimizer.param_groups} == {0.123}


def test_a_schedule_counts_gradient_steps_and_goes_on_after_a_load(
    make: Make, tmp_path: Path
) -> None:
    model = make("sac", policy_kwargs={"sn_coef": [2.0, 1.0, 50]}, learn=40)
    assert model.policy.own_kwargs["sn_coef"] == (2.0, 1.0, 50)
    updates = model._n_updates
    assert 10 < updates < 50
    for critic in (model.critic, model.critic_target):
        np.testing.assert_allclose(norms(critic), 2 - updates / 50, rtol=1e-3)
    model.save(tmp_path / "model.zip")
    loaded = SAC.load(tmp_path / "model.zip", env=model.get_env(), device="cpu")
    loaded.learn(30, reset_num_timesteps=False)
    assert loaded._n_updates > 50 - updates
    for critic in (loaded.critic, loaded.critic_target):
        wanted = max(1.0, 2 - loaded._n_updates / 50)
        np.testing.assert_allclose(norms(critic), wanted, rtol=1e-3)


@pytest.mark.parametrize("mode", ["bidirectional", "gain", "project", "div_out", "mul_eps"])
def test_images_with_a_normalised_extractor(make: Make, mode: str) -> None:
    model = make(
        "td3",
        "SNCnnPolicy",
        FakeImageEnv(discrete=False, screen_height=36, screen_width=36),
        buffer_size=60,
        policy_delay=1,
        tau=0.5,
        learning_rate=1e-3,
        policy_kwargs={
            "sn_features": True,
            "sn_mode": mode,
            "features_extractor_kwargs": {"features_dim": 8},
        },
        learn=26,
    )
    for critic in (model.critic, model.critic_target):
        for layer in critic.normalized:
            kernel = layer.effective_weight().detach()
            sides = (kernel, kernel.transpose(0, 1))
            one, other = (np.linalg.norm(side.flatten(1).numpy(), 2) for side in sides)
            if mode == "bidirectional":
                assert (one + other) / 2 == pytest.approx(1.0, rel=1e-3)
            elif mode == "gain":
                assert one == pytest.approx(abs(layer.gain.item()), rel=1e-3)
            elif mode == "project":
                assert one <= 1 + 1.5e-3
        products = []
        for i, network in enumerate(critic.q_networks):
            layers = [
                x for x in critic.normalized if x not in set(critic.q_networks[1 - i].modules())
            ]
            assert len(layers) == len(critic.normalized) - 1
            products.append(
                np.prod([np.linalg.norm(x.weight.detach().flatten(1).numpy(), 2) for x in layers])
            )
            last = network[-1]
            x = torch.rand(3, last.in_features)
            raw = x @ last.weight.T + last.bias
            factor = 1 / products[-1] if mode == "div_out" else 1.0
            if mode != "gain":
                torch.testing.assert_close(last(x), raw * factor, rtol=1e-3, atol=1e-5)


def test_bad_modes_are_named(make: Make) -> None:
    with pytest.raises(ValueError, match="unknown mode 'caps'; there are normalize, cap"):
        make("sac", policy_kwargs={"sn_mode": "caps"})
    with pytest.raises(ValueError, match="mode 'cap' has no option 'k'; it has none"):
        make("td3", policy_kwargs={"sn_mode": "cap", "sn_mode_options": {"k": 1}})


def test_a_mode_itself_and_its_options_survive_a_save(make: Make, tmp_path: Path) -> None:
    mode = MODES["penalty_to_coef"](strength=0.1, exponent=3)
    for kwargs in (
        {"sn_mode": mode},
        {"sn_mode": mode.name, "sn_mode_options": {"strength": 0.1, "exponent": 3}},
    ):
        model = make("td3", policy_kwargs=kwargs)
        model.save(tmp_path / "model.zip")
        assert TD3.load(tmp_path / "model.zip", device="cpu").policy.spectral.mode == mode
        model.policy.save(tmp_path / "policy.pth")
        loaded = type(model.policy).load(tmp_path / "policy.pth", device="cpu")
        assert loaded.spectral.mode == mode
