"""REDQ's subset of heads, against the paper's formulas."""

from collections import Counter
from collections.abc import Callable
from itertools import combinations
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import mse_loss

from snrl.critics.stabilizers import resolve_critic
from snrl.critics.stabilizers.redq import HeadSubset
from snrl.critics.stacked import stacked_forward
from snrl.spectral import native
from snrl.values.probe import Probe

from ...fast.pairs import assert_equal, in_float64, is_fast, make_pair, train

Make = Callable[..., Any]
N = 5
REDQ = {"critic": "sn+redq", "n_critics": N}


def inputs(n: int = 6) -> tuple[Tensor, Tensor]:
    return torch.randn(n, 3), torch.rand(n, 1)


def all_values(critic: Any, obs: Tensor, actions: Tensor) -> Tensor:
    """Those of each head by itself, shape ``(N, batch, 1)``."""
    x = torch.cat([obs, actions], 1)
    return torch.stack([head(x) for head in critic.q_networks])


@pytest.mark.parametrize("subset", [1, 2, 4, 5])
def test_subsets_are_uniform(subset: int) -> None:
    chooser = HeadSubset(subset)
    heads = [nn.Sequential() for _ in range(N)]
    numbers = {id(head): i for i, head in enumerate(heads)}
    state = torch.get_rng_state()
    draws = 4000
    counts = Counter(tuple(numbers[id(x)] for x in chooser.asked(heads)) for _ in range(draws))
    assert torch.equal(torch.get_rng_state(), state)
    possible = [*combinations(range(N), subset)]
    assert set(counts) == set(possible)
    mean = draws / len(possible)
    chi_square = sum((counts[x] - mean) ** 2 / mean for x in possible)
    # With up to 9 degrees of freedom, more has a probability of 1e-4.
    assert chi_square < 33


def test_the_target_asks_a_subset_in_training_and_all_in_evaluation(make: Make) -> None:
    model = make("sac", policy_kwargs=REDQ)
    obs, actions = inputs()
    for critic in (model.critic, model.critic_target):
        assert len(critic(obs, actions)) == N
    model.policy.set_training_mode(True)
    every = all_values(model.critic_target, obs, actions)
    seen = set()
    for _ in range(30):
        values = model.critic_target(obs, actions)
        found = [int((every - value).abs().amax((1, 2)).argmin()) for value in values]
        for i, value in zip(found, values, strict=True):
            torch.testing.assert_close(value, every[i])
        assert len({*found}) == 2
        seen |= {*found}
    assert seen == {*range(N)}
    # Nothing is prepared for each of the subsets.
    assert len(model.critic_target.evaluate._evaluators) <= N + 1
    # The loss of the critic is of all heads.
    assert len(model.critic(obs, actions)) == N
    with Probe(model).quiet():
        for critic in (model.critic, model.critic_target):
            assert len(critic(obs, actions)) == N
            assert len(critic(obs, actions.clone().requires_grad_())) == N
    assert len(model.critic_target(obs, actions)) == 2
    assert len(model.critic_target(obs, actions.clone().requires_grad_())) == 1
    model.policy.set_training_mode(False)
    assert len(model.critic_target(obs, actions)) == N


class Seen:
    """What passes through a model's update."""

    def __init__(self, model: Any) -> None:
        self.batches: list[Any] = []
        self.targets: list[Any] = []
        self.online: list[Any] = []
        self.asked: list[Any] = []
        self.sampled: list[Any] = []
        sample = model.replay_buffer.sample
        model.replay_buffer.sample = lambda *a, **k: self._kept(self.batches, sample(*a, **k))
        if hasattr(model.actor, "action_log_prob"):
            act = model.actor.action_log_prob
            model.actor.action_log_prob = lambda obs: self._kept(self.sampled, act(obs))
        chooser = model.critic_target.ensemble
        ask = chooser.asked
        chooser.asked = lambda heads: self._kept(self.asked, ask(heads))
        model.critic_target.register_forward_hook(self._see(self.targets))
        model.critic.register_forward_hook(self._see(self.online))

    @staticmethod
    def _kept(where: list[Any], value: Any) -> Any:
        where.append(value)
        return value

    @staticmethod
    def _see(where: list[Any]) -> Callable[..., None]:
        def hook(critic: Any, args: Any, output: Any) -> None:
            with torch.no_grad():
                where.append((*args, all_values(critic, *args), output))

        return hook


def test_sacs_update_is_the_papers(make: Make) -> None:
    model = make("sac", learn=25, policy_kwargs=REDQ, ent_coef=0.3)
    seen = Seen(model)
    model.train(1, 16)
    ((obs, actions, rewards, dones), *_) = [
        (x.observations, x.actions, x.rewards, x.dones) for x in (seen.batches[0],)
    ]
    [(_, next_actions, next_values, _)] = seen.targets
    (_, log_prob), (sampled, next_log_prob) = seen.sampled
    assert torch.equal(sampled, next_actions)
    heads = model.critic_target.q_networks
    chosen = [next(i for i in range(N) if heads[i] is x) for x in seen.asked[0]]
    assert len(chosen) == 2
    least = next_values[chosen].amin(0)
    backup = rewards + 0.99 * (1 - dones) * (least - 0.3 * next_log_prob[:, None])
    (data_obs, data_actions, values, _), (pi_obs, pi, pi_values, told) = seen.online
    assert data_obs is obs
    assert data_actions is actions
    assert pi_obs is obs
    assert pi.requires_grad
    logged = model.logger.name_to_value
    expected = 0.5 * sum(mse_loss(value, backup) for value in values)
    assert logged["train/critic_loss"] == pytest.approx(expected.item(), rel=1e-5)
    assert len(told) == 1
    torch.testing.assert_close(told[0], pi_values.mean(0))
    actor_loss = (0.3 * log_prob.reshape(-1, 1) - pi_values.mean(0)).mean()
    assert logged["train/actor_loss"] == pytest.approx(actor_loss.item(), rel=1e-5)


def test_td3s_actor_climbs_the_mean_of_all_heads(make: Make) -> None:
    model = make("td3", learn=25, policy_kwargs=REDQ, policy_delay=1)
    seen = Seen(model)
    model.train(1, 16)
    *_, (_, pi, pi_values, told) = seen.online
    assert pi.requires_grad
    torch.testing.assert_close(told[0], pi_values.mean(0))
    loss = model.logger.name_to_value["train/actor_loss"]
    assert loss == pytest.approx(-pi_values.mean().item(), rel=1e-5)
    assert [len(x) for x in seen.asked] == [2]
    # The others who ask for the first head get it.
    obs, actions = inputs()
    torch.testing.assert_close(model.critic.q1_forward(obs, actions), model.critic(obs, actions)[0])


@pytest.mark.skipif(not native.is_available(), reason="no compiler")
@pytest.mark.parametrize(
    ("algo", "options"), [("sac", {}), ("td3", {"policy_delay": 1}), ("td3", {"policy_delay": 2})]
)
@pytest.mark.parametrize("critic", ["redq", "sn+redq+weight_decay"])
def test_the_fast_update_is_the_stock_one(algo: str, critic: str, options: Any) -> None:
    kwargs = {"critic": critic, "n_critics": 10, "n_power_iterations": 30}
    pair = make_pair(algo, "SNMlpPolicy", policy_kwargs=kwargs, **options)
    with in_float64(*pair):
        train(pair, 4, 3)
    assert is_fast(pair[0])
    assert_equal(*pair, rtol=1e-9)


def test_every_head_learns(make: Make) -> None:
    model = make("sac", learn=25, policy_kwargs=REDQ)
    before = [[x.clone() for x in head.parameters()] for head in model.critic.q_networks]
    model.train(1, 16)
    for head, old in zip(model.critic.q_networks, before, strict=True):
        assert not any(map(torch.equal, head.parameters(), old))


@pytest.mark.parametrize("chosen", [(0, 1), (1, 4), (0, 2, 3)])
def test_heads_that_are_drawn_are_stacked_where_that_is_done(
    make: Make, chosen: tuple[int, ...]
) -> None:
    """On the CPU it is not; the values, and gradients of any order, are the same."""
    model = make("sac", policy_kwargs=REDQ)
    heads = [model.critic.q_networks[i] for i in chosen]
    x = torch.randn(6, 4, requires_grad=True)
    one_by_one = torch.stack([head(x) for head in heads])
    stacked = stacked_forward(heads, x)
    torch.testing.assert_close(stacked, one_by_one)
    weight = heads[-1][2].weight
    found = []
    for values in (stacked, one_by_one):
        (slope,) = torch.autograd.grad(values.sum(), x, create_graph=True)
        found.append(torch.autograd.grad(slope.square().sum(), weight)[0])
    torch.testing.assert_close(*found)


def test_a_hard_copy_of_the_critic_to_the_target_works(make: Make) -> None:
    model = make("sac", policy_kwargs=REDQ)
    model.critic_target.load_state_dict(model.critic.state_dict())


@pytest.mark.parametrize(("algo", "n_critics"), [("sac", 1), ("td3", 1), ("ddpg", None)])
def test_too_few_critics_are_refused(make: Make, algo: str, n_critics: int | None) -> None:
    kwargs = {"critic": "redq"} | ({} if n_critics is None else {"n_critics": n_critics})
    message = "critic 'redq': n_critics must be at least 2, .* got 1; set n_critics"
    with pytest.raises(ValueError, match=message):
        make(algo, policy_kwargs=kwargs)


@pytest.mark.parametrize("subset", [0, 2.0, True])
def test_a_wrong_subset_is_refused(subset: Any) -> None:
    with pytest.raises(ValueError, match="subset must be an integer of at least 1"):
        resolve_critic("redq", {"redq": {"subset": subset}})
