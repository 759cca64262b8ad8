"""The update for a GPU, against SB3's from the same seeds: on the CPU, recorded, and on a GPU.

On the CPU it is done as it is written; ``recorded`` then replaces the CUDA graphs by the recorder
beside this file, which does what these do with the operations that PyTorch dispatches.
"""

import copy
import io
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.vec_env import VecNormalize
from torch import nn

import snrl
import snrl.sac.gpu
import snrl.td3.gpu
from snrl.fast.gpu import graph
from snrl.fast.gpu.staging import Staging
from snrl.fast.gpu.transitions import Replica, Samples
from snrl.sac.sac import SAC
from snrl.spectral import steps
from snrl.td3.td3 import TD3

from ..pairs import (
    BATCH,
    CALM,
    FLOAT32,
    assert_equal,
    fill,
    in_float64,
    is_fast,
    make_pair,
    state,
    train,
)
from .recorder import record

ALGOS = ["sac", "td3"]
POLICIES = ["MlpPolicy", "SNMlpPolicy"]
CONVERGED = {"n_power_iterations": 30}
# A learning rate that float32 has: a recorded step reads it from the device, in float32.
EXACT = {"learning_rate": 2.0**-10}


@pytest.fixture(autouse=True, params=["as written", "recorded"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Let models on the CPU take the way of a GPU."""
    monkeypatch.setattr(SAC, "update_classes", {"cpu": snrl.sac.gpu.Update})
    monkeypatch.setattr(TD3, "update_classes", {"cpu": snrl.td3.gpu.Update})
    if request.param == "recorded":
        monkeypatch.setitem(graph.RECORDERS, "cpu", record)
    return str(request.param)


# --- Parity ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("algo", ALGOS)
@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("n_critics", [1, 2, 5, 10])
def test_ten_updates_in_float32(algo: str, policy: str, n_critics: int, way: str) -> None:
    pair = make_pair(algo, policy, policy_kwargs={"n_critics": n_critics, **CALM})
    train(pair, 1)
    assert_equal(*pair, rtol=FLOAT32)
    train(pair, 9, first=1)
    assert_equal(*pair, rtol=FLOAT32)
    assert is_fast(pair[0])
    assert all(x.is_recorded for x in pair[0]._update._graphs.values()) == (way == "recorded")


OPTIONS: dict[str, dict[str, Any]] = {
    "one step": {},
    "three steps": {"steps": 3},
    "forty steps": {"steps": 40},
    "n-step returns": {"n_steps": 3},
    "one layer": {"policy_kwargs": {"net_arch": [16]}},
    "three layers": {"policy_kwargs": {"net_arch": [32, 32, 32]}},
    "no layers": {"policy_kwargs": {"net_arch": []}, "policy": "MlpPolicy"},
    "unlike networks": {"policy_kwargs": {"net_arch": {"pi": [7], "qf": [9, 12]}}},
    "all normalised": {"policy_kwargs": {"sn_layers": "all"}},
    "capped": {"policy_kwargs": {"sn_mode": "cap", "sn_coef": 0.5}},
    "scheduled norm": {"policy_kwargs": {"sn_coef": (2.0, 1.0, 5)}},
    "layer norm": {"policy_kwargs": {"critic": "layer_norm"}},
    "rms norm": {"policy_kwargs": {"critic": "rms_norm"}},
    "ensemble": {"policy_kwargs": {"critic": "sn+redq", "n_critics": 4}},
    "AdamW": {
        "policy_kwargs": {
            "optimizer_class": torch.optim.AdamW,
            "optimizer_kwargs": {"weight_decay": 0.1, "betas": (0.8, 0.95)},
        }
    },
    "weight decay": {"policy_kwargs": {"optimizer_kwargs": {"weight_decay": 0.1}}},
    "large steps": {"tau": 0.3, "gamma": 0.9},
    "one transition": {"batch_size": 1},
    "scheduled rate": {"learning_rate": lambda left: 2.0**-10 * (1 if left > 0.5 else 0.5)},
}


@pytest.mark.parametrize("algo", ALGOS)
@pytest.mark.parametrize("name", OPTIONS)
def test_updates_in_float64(algo: str, name: str) -> None:
    options = EXACT | copy.deepcopy(OPTIONS[name])
    policy, steps = options.pop("policy", "SNMlpPolicy"), options.pop("steps", 1)
    batch_size = options.pop("batch_size", BATCH)
    if policy == "SNMlpPolicy":
        options["policy_kwargs"] = CONVERGED | options.get("policy_kwargs", {})
    pair = make_pair(algo, policy, **options)
    with in_float64(*pair):
        for first in (0, 6):
            for model in pair:
                model._current_progress_remaining = 1 - first / 10
            train(pair, max(8 // steps, 3), steps, batch_size, first=first)
    assert is_fast(pair[0]), pair[0]._reason
    assert_equal(*pair, rtol=1e-10)


@pytest.mark.parametrize("algo", ALGOS)
@pytest.mark.parametrize("policy", POLICIES)
def test_two_hundred_updates_in_float64(algo: str, policy: str) -> None:
    options = CONVERGED if policy == "SNMlpPolicy" else {}
    pair = make_pair(algo, policy, policy_kwargs=options, **EXACT)
    with in_float64(*pair):
        train(pair, 1, 10)
        train(pair, 10, 19, first=1)
    assert_equal(*pair, rtol=1e-10)


@pytest.mark.parametrize(
    "options",
    [
        {"ent_coef": "auto_0.1", "target_entropy": -3.0},
        {"ent_coef": 0.2},
        {"ent_coef": 0.0},
        {"target_update_interval": 5, "tau": 1.0},
    ],
)
def test_options_of_sac(options: dict[str, Any]) -> None:
    pair = make_pair("sac", "SNMlpPolicy", policy_kwargs=CONVERGED, **options, **EXACT)
    with in_float64(*pair):
        train(pair, 4, 7)
    assert pair[0].logger.name_to_value.keys() == pair[1].logger.name_to_value.keys()
    assert is_fast(pair[0]), pair[0]._reason
    assert_equal(*pair, rtol=1e-10)


@pytest.mark.parametrize(
    "options",
    [
        {"policy_delay": 3},
        {"target_policy_noise": 0.0},
        {"target_policy_noise": 1.0, "target_noise_clip": 0.3},
    ],
)
def test_options_of_td3(options: dict[str, Any]) -> None:
    pair = make_pair("td3", "SNMlpPolicy", policy_kwargs=CONVERGED, **options, **EXACT)
    with in_float64(*pair):
        train(pair, 4, 7)
    assert is_fast(pair[0]), pair[0]._reason
    assert_equal(*pair, rtol=1e-10)


# --- What may change between two calls ------------------------------------------------------------


def loaded_optimizer(model: Any) -> None:
    optimizer = model.critic.optimizer
    optimizer.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    for kept in optimizer.state.values():
        kept["exp_avg"].mul_(0.5)
        kept["step"].fill_(100.0)


def counted(model: Any) -> None:
    for kept in model.critic.optimizer.state.values():
        kept["step"] += 50


def rated(model: Any) -> None:
    model.lr_schedule = lambda _: 2.0**-9


def decayed(model: Any) -> None:
    for group in model.critic.optimizer.param_groups:
        group["weight_decay"] = 0.25


def discounted(model: Any) -> None:
    model.gamma = 0.5


def slowed(model: Any) -> None:
    model.tau = 0.25


def moved(model: Any) -> None:
    for param in model.actor.parameters():
        param.data = param.data.clone() * 1.5


def grown(model: Any) -> None:
    model.critic.optimizer.add_param_group({"params": [torch.zeros(1, requires_grad=True)]})


def hooked(model: Any) -> None:
    model.critic.q_networks[0][0].register_forward_hook(lambda *_: None)


def iterated(model: Any) -> None:
    model.policy.spectral.n_power_iterations = 25


def held_lower(model: Any) -> None:
    model.policy.spectral.coefficient.start = 0.5


def copied(model: Any) -> None:
    model.policy.load_state_dict(
        {k: v.clone() if isinstance(v, torch.Tensor) else v
         for k, v in model.policy.state_dict().items()}
    )  # fmt: skip


@pytest.mark.parametrize("algo", ALGOS)
@pytest.mark.parametrize(
    "change",
    [
        *(loaded_optimizer, counted, rated, decayed, discounted, slowed),
        *(moved, grown, hooked, iterated, held_lower, copied),
    ],
)
def test_a_change_is_seen(algo: str, change: Any) -> None:
    pair = make_pair(algo, "SNMlpPolicy", policy_kwargs=CONVERGED, **EXACT)
    with in_float64(*pair):
        train(pair, 6)
        for model in pair:
            change(model)
        train(pair, 6, first=6)
    assert is_fast(pair[0]) == (change not in (grown, hooked))
    assert_equal(*pair, rtol=1e-10)


def test_who_follows_the_critic_later_is_seen() -> None:
    class Counter(nn.Module):
        turn = 1
        seen = 0

        def __init__(self, layers: Any) -> None:
            super().__init__()
            self.layers = layers

        def before_step(self, *_: Any) -> None:
            self.seen += 1

        def after_step(self, *_: Any) -> None:
            pass

    pair = make_pair("sac")
    train(pair, 3)
    assert is_fast(pair[0])
    counter = Counter([pair[0].critic.q_networks[0][0]])
    steps.live.add(counter)
    train(pair, 2, first=3)
    assert counter.seen == 2
    assert pair[0]._reason == "a Counter acts at each step of the critic's optimizer"


def test_counts_of_an_update_that_was_broken_off() -> None:
    pair = make_pair("sac", **EXACT)
    with in_float64(*pair):
        train(pair, 6)
        update = pair[0]._update
        update._begin(1)
        update._graph(True, True)()
        # The host never learns of it.
        train(pair, 1, first=6)
    counts = [{x["step"].item() for x in m.critic.optimizer.state.values()} for m in pair]
    assert counts[0] == counts[1] == {7.0}
    (group,) = update._critics._adam._groups
    assert {x.item() for x in group.counts} == {7.0}


def another_value(model: Any) -> None:
    model.log_ent_coef.data = torch.full_like(model.log_ent_coef, -1.0)


def another_coefficient(model: Any) -> None:
    fresh = torch.full_like(model.log_ent_coef.detach(), -1.0).requires_grad_()
    model.log_ent_coef = fresh
    model.ent_coef_optimizer = torch.optim.Adam([fresh], lr=2.0**-8)


def fixed(model: Any) -> None:
    model.ent_coef_optimizer = None
    model.ent_coef_tensor = torch.tensor(0.25)


@pytest.mark.parametrize("change", [another_value, another_coefficient, fixed])
def test_another_entropy_coefficient(change: Any) -> None:
    pair = make_pair("sac", **EXACT)
    with in_float64(*pair):
        train(pair, 6)
        for model in pair:
            change(model)
        train(pair, 6, first=6)
    assert is_fast(pair[0])
    assert_equal(*pair, rtol=1e-10)


def test_what_is_not_recorded_goes_sb3s_way_and_says_why() -> None:
    for options, reason in (
        ({"sn_mode": "project"}, "does more at each step"),
        ({"optimizer_class": torch.optim.SGD}, "SGD with hooks, or options"),
        ({"optimizer_kwargs": {"amsgrad": True}}, "the actor's optimizer is Adam with"),
    ):
        pair = make_pair("sac", "SNMlpPolicy", policy_kwargs=options)
        with in_float64(*pair):
            train(pair, 2)
        assert not is_fast(pair[0])
        assert reason in pair[0]._reason
        assert_equal(*pair, rtol=1e-10)


def test_vectors_that_only_torch_can_carry_are_not_recorded() -> None:
    pair = make_pair("sac", "SNMlpPolicy", policy_kwargs={"block_size": 17, "net_arch": [32, 32]})
    assert pair[0]._prepared(BATCH) is None
    assert "carried by torch" in pair[0]._reason


# --- Transitions ----------------------------------------------------------------------------------


def batches_of(model: Any, count: int = 3) -> Iterator[list[torch.Tensor]]:
    """Batches as the update sees them, and as the buffer gives them."""
    own = model._update._transitions
    np.random.seed(7)
    own.draw(count)
    np.random.seed(7)
    for i in range(count):
        mine = own.batch(torch.tensor([i]))
        sample = model.replay_buffer.sample(BATCH, env=model._vec_normalize_env)
        gammas = model.gamma if sample.discounts is None else sample.discounts
        theirs = [
            torch.cat((sample.observations, sample.actions), 1),
            sample.observations,
            sample.next_observations,
            sample.rewards.flatten(),
            ((1 - sample.dones) * gammas).flatten(),
        ]
        yield [(x - y).abs().max() for x, y in zip(mine, theirs, strict=True)]


@pytest.mark.parametrize("n_envs", [1, 3])
def test_a_replica_has_what_the_buffer_has(n_envs: int) -> None:
    env = make_vec_env("Pendulum-v1", n_envs, seed=0)
    model, _ = make_pair("sac", env=lambda: env, buffer_size=60 * n_envs)
    model._prepared(BATCH)
    assert isinstance(model._update._transitions, Replica)
    # None, some, all but one, exactly all, more than all of the buffer's rows.
    for seed, count in enumerate((0, 1, 7, 59, 60, 0, 61, 130, 13), start=1):
        fill(model, count, seed)
        assert all(not any(x) for x in batches_of(model))


@pytest.mark.parametrize("count", [5, 20, 30, 60, 70])
def test_a_replica_follows_a_buffer_that_was_emptied(count: int) -> None:
    model, _ = make_pair("sac", buffer_size=60)
    model._prepared(BATCH)
    assert all(not any(x) for x in batches_of(model))
    model.replay_buffer.reset()
    fill(model, count, seed=1)
    assert all(not any(x) for x in batches_of(model))


def test_a_replica_is_sent_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("snrl.fast.gpu.transitions._SENT", 16)
    env = make_vec_env("Pendulum-v1", 3, seed=0)
    model, _ = make_pair("sac", env=lambda: env)
    model._prepared(BATCH)
    assert len(model._update._transitions._sent) == 15
    assert all(not any(x) for x in batches_of(model))


def test_memory_of_the_host_is_asked_for_before_each_filling(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What was sent may still be on its way, also from the end of the buffer to its beginning."""
    calls: list[tuple[str, int]] = []
    for name in ("take", "send"):
        own = getattr(Staging, name)

        def noted(self: Staging, *args: Any, name: str = name, own: Any = own) -> Any:
            calls.append((name, id(self)))
            return own(self, *args)

        monkeypatch.setattr(Staging, name, noted)
    model, _ = make_pair("sac", buffer_size=60)
    train([model], 1)
    fill(model, 55, seed=1)
    train([model], 1)
    for staging in {x for _, x in calls}:
        names = [name for name, x in calls if x == staging]
        assert names == ["take", "send"] * (len(names) // 2)


def test_another_buffer_is_another_update() -> None:
    pair = make_pair("sac", **EXACT)
    with in_float64(*pair):
        train(pair, 3)
        for model in pair:
            model.replay_buffer = copy.deepcopy(model.replay_buffer)
            model.replay_buffer.reset()
            fill(model, 40, seed=3)
        train(pair, 3, first=3)
    assert_equal(*pair, rtol=1e-10)


@pytest.mark.parametrize("algo", ALGOS)
def test_normalised_rewards_and_observations(algo: str) -> None:
    pair = make_pair(
        algo, env=lambda: VecNormalize(make_vec_env("Pendulum-v1", 2, seed=0)), **EXACT
    )
    with in_float64(*pair):
        train(pair, 3, 2)
    assert isinstance(pair[0]._update._transitions, Samples)
    assert is_fast(pair[0])
    assert_equal(*pair, rtol=1e-10)


# --- Actions, runs and files ----------------------------------------------------------------------


@pytest.mark.parametrize("algo", ALGOS)
@pytest.mark.parametrize("deterministic", [False, True])
def test_actions_are_those_of_the_policy(algo: str, deterministic: bool) -> None:
    model, stock = make_pair(algo)
    train((model, stock), 6)
    rng = np.random.default_rng(0)
    for seed in range(6):
        obs = rng.normal(size=(1, 3)).astype(np.float32)
        found = []
        for one in (model, stock):
            torch.manual_seed(seed)
            found.append(one.predict(obs, deterministic=deterministic)[0])
        np.testing.assert_allclose(found[0], found[1], rtol=1e-4, atol=1e-5)
    assert model.is_prepared


@pytest.mark.parametrize("algo", ["SAC", "TD3"])
def test_a_run_goes_on_from_a_file_bit_by_bit(algo: str) -> None:
    def make() -> Any:
        return getattr(snrl, algo)(
            "SNMlpPolicy", "Pendulum-v1", learning_starts=20, buffer_size=100, batch_size=16,
            seed=0, policy_kwargs={"net_arch": [16, 16]}, device="cpu",
        )  # fmt: skip

    model = make().learn(40)
    file = io.BytesIO()
    model.save(file)
    # torch.save of what the update holds would fail, or store the replica.
    loaded = type(model).load(file, env=model.env)
    for key, value in dict(state(model)).items():
        if not key.startswith("train/"):
            assert torch.equal(dict(state_of_policy(loaded))[key], value), key
    assert all(isinstance(g["lr"], float) for g in loaded.critic.optimizer.param_groups)
    assert nn.Module.state_dict(loaded.policy).keys() == model.policy.state_dict().keys()
    loaded.learn(5, reset_num_timesteps=False)


def state_of_policy(model: Any) -> Iterator[tuple[str, torch.Tensor]]:
    """Like ``state``, of a model that has no logger yet."""
    model.set_logger(make_pair("sac")[0].logger)
    return state(model)


def test_what_cannot_be_recorded_is_done_as_it_is_written(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*_: Any) -> Any:
        raise RuntimeError("operation not permitted when stream is capturing")

    monkeypatch.setitem(graph.RECORDERS, "cpu", fail)
    pair = make_pair("sac", "SNMlpPolicy", policy_kwargs=CONVERGED, **EXACT)
    with in_float64(*pair):
        train(pair, 8)
    assert_equal(*pair, rtol=1e-10)
    (said,) = caplog.messages
    assert said.startswith("cpu could not record the update")
    assert "not permitted" in said
