"""Penalties against autograd of losses that are written down, in float64."""

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from stable_baselines3.common.envs import FakeImageEnv
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor
from torch import Tensor, nn

from snrl.critics.stabilizers import resolve_critic
from snrl.critics.stabilizers.dropout import PrivateDropout
from snrl.critics.stabilizers.penalties import GradientPenalty

from ...fast.pairs import in_float64
from ..extractors import BatchNormExtractor
from .steps import Written, assert_close, batch, in_double, loss_of, step

Make = Callable[..., Any]


def norms(written: Written, head: int, obs: Tensor, actions: Tensor, by: str) -> Tensor:
    features, point = written.features(obs), actions.clone().requires_grad_()
    x = torch.cat([features, point], 1)
    wanted = point if by == "action" else x
    (slope,) = torch.autograd.grad(written.values(head, x).sum(), wanted, create_graph=True)
    return slope.square().sum(1).sqrt()


def one_sided(written: Written, head: int, obs: Tensor, actions: Tensor) -> Tensor:
    return (norms(written, head, obs, actions, "action") - 0.05).clamp(min=0).square().mean()


def two_sided(written: Written, head: int, obs: Tensor, actions: Tensor) -> Tensor:
    return 7 * (norms(written, head, obs, actions, "input") - 1).square().mean()


def squares(written: Written, head: int, obs: Tensor, actions: Tensor) -> Tensor:
    hidden = written.hidden(head, torch.cat([written.features(obs), actions], 1))
    return 0.5 * (hidden**2).sum() / len(hidden)


GP, FP = "gradient_penalty", "feature_penalty"
CASES = [
    (GP, {"target": 0.05}, one_sided),
    (GP, {"strength": 7, "inputs": "input", "two_sided": True}, two_sided),
    (FP, {"strength": 0.5}, squares),
]


@pytest.mark.parametrize("algo", ["sac", "td3"])
@pytest.mark.parametrize("others", ["", "sn+", "layer_norm+", "sn+layer_norm+"])
@pytest.mark.parametrize(("name", "options", "term"), CASES)
def test_a_step_has_the_gradient_of_loss_and_term(
    make: Make, algo: str, others: str, name: str, options: Any, term: Any
) -> None:
    kwargs = {"critic": others + name, "critic_options": {name: options}, "n_critics": 3}
    kwargs["n_power_iterations"] = 30
    model = in_double(make(algo, policy_kwargs=kwargs))
    for _ in range(2):  # the second without the singular vectors of an SVD
        written = Written(model.critic)
        got = step(model)
        assert_close(got, written.gradients(term), rtol=1e-9 if "sn" not in others else 1e-5)
        without = written.gradients(lambda *_: torch.zeros(()))
        name_of = "qf1.0.weight"
        assert (got[name_of] - without[name_of]).abs().max() > 1e-3 * got[name_of].abs().max()


def test_both_are_added(make: Make) -> None:
    kwargs = {"critic": f"{GP}+{FP}+l2_penalty", "critic_options": {GP: CASES[0][1]}}
    kwargs["critic_options"] |= {FP: CASES[2][1], "l2_penalty": {"strength": 0.3}}
    model = in_double(make("sac", policy_kwargs=kwargs))
    written = Written(model.critic)

    def all_of_them(written: Written, head: int, *inputs: Tensor) -> Tensor:
        matrices = [x for n, x in written.parameters.items() if f"qf{head}" in n and x.dim() > 1]
        l2 = 0.3 / 2 * torch.stack([(x**2).sum() for x in matrices]).sum()
        return one_sided(written, head, *inputs) + squares(written, head, *inputs) + l2

    assert_close(step(model), written.gradients(all_of_them))


class Extractor(BaseFeaturesExtractor):
    def __init__(self, space: Any) -> None:
        super().__init__(space, 4)
        self.layer = nn.Linear(3, 4)

    def forward(self, obs: Tensor) -> Tensor:
        return torch.tanh(self.layer(obs.to(self.layer.weight.dtype)))


def written_extractor(obs: Tensor, parameters: dict[str, Tensor]) -> Tensor:
    weight, bias = (parameters[f"features_extractor.layer.{x}"] for x in ("weight", "bias"))
    return torch.tanh(obs @ weight.T + bias)


@pytest.mark.parametrize(("name", "options", "term"), CASES)
def test_an_extractor_of_the_critics_own_gets_the_gradient_too(
    make: Make, name: str, options: Any, term: Any
) -> None:
    kwargs = {"critic": name, "critic_options": {name: options}}
    kwargs["features_extractor_class"] = Extractor
    model = in_double(make("sac", policy_kwargs=kwargs))
    written = Written(model.critic, written_extractor)
    assert_close(step(model), written.gradients(term))


@pytest.mark.parametrize("name", [GP, FP])
def test_a_shared_extractor_gets_none(make: Make, name: str) -> None:
    kwargs = {"critic": name, "features_extractor_class": Extractor}
    model = in_double(make("sac", policy_kwargs=kwargs | {"share_features_extractor": True}))
    obs, actions, targets = batch()
    loss_of(model.critic(obs, actions), targets).backward()
    model.critic.optimizer.step()
    assert model.critic.features_extractor.layer.weight.grad is None


def test_other_forwards_do_not_change_the_batch(make: Make) -> None:
    kwargs = {"critic": GP, "critic_options": {GP: CASES[0][1]}}
    model = in_double(make("sac", policy_kwargs=kwargs))
    written = Written(model.critic)
    obs, actions, targets = batch()
    loss_of(model.critic(obs, actions), targets).backward()
    other_obs, other_actions, _ = batch(1)
    model.critic(other_obs, other_actions.clone().requires_grad_())
    with torch.no_grad():
        model.critic(other_obs, other_actions)
    model.critic.eval()
    model.critic(other_obs, other_actions)
    model.critic.train()
    model.critic.optimizer.step()
    got = {name: x.grad for name, x in model.critic.named_parameters()}
    assert_close(got, written.gradients(one_sided))


@pytest.mark.parametrize("algo", ["sac", "td3"])
def test_in_training_it_is_the_batch_of_the_loss(
    make: Make, algo: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen, term = [], GradientPenalty.term
    monkeypatch.setattr(GradientPenalty, "term", lambda *args: seen.append(args[2:]) or term(*args))
    model = make(algo, learn=25, policy_kwargs={"critic": GP})
    seen.clear()
    batches, sample = [], model.replay_buffer.sample

    def recorded(*args: Any, **kwargs: Any) -> Any:
        batches.append(sample(*args, **kwargs))
        return batches[-1]

    model.replay_buffer.sample = recorded
    model.train(4, 16)
    assert len(seen) == 4
    for (obs, actions), drawn in zip(seen, batches, strict=True):
        assert obs is drawn.observations
        assert actions is drawn.actions
    # Nothing is kept.
    assert model.policy.followers[GP]._batch is None


def test_a_step_without_a_forward_has_no_term(make: Make) -> None:
    model = make("sac", policy_kwargs={"critic": f"{GP}+{FP}"})
    model.critic.optimizer.zero_grad()
    before = [x.clone() for x in model.critic.parameters()]
    model.critic.optimizer.step()
    assert all(map(torch.equal, before, model.critic.parameters()))


def test_the_same_units_are_dropped_as_in_the_loss(make: Make) -> None:
    kwargs = {"critic": f"dropout+{GP}", "critic_options": {GP: CASES[0][1], "dropout": {"p": 0.4}}}
    model = in_double(make("sac", policy_kwargs=kwargs))
    obs, actions, targets = batch()
    other = copy.deepcopy(model.critic)
    got = step(model)

    loss = loss_of(other(obs, actions), targets)
    dropouts = [
        [x for x in critic.modules() if isinstance(x, PrivateDropout)]
        for critic in (model.critic, other)
    ]
    for own, others in zip(*dropouts, strict=True):
        assert own._draws == others._draws == 1
        others._draws = 0
    for head in other.q_networks:
        point = actions.clone().requires_grad_()
        values = head(torch.cat([obs, point], 1))
        (slope,) = torch.autograd.grad(values.sum(), point, create_graph=True)
        loss = loss + (slope.norm(dim=1) - 0.05).clamp(min=0).square().mean()
    names, parameters = zip(*other.named_parameters(), strict=True)
    expected = dict(zip(names, torch.autograd.grad(loss, parameters), strict=True))
    assert_close(got, expected)


def test_running_statistics_see_a_batch_once(make: Make) -> None:
    kwargs = {"features_extractor_class": BatchNormExtractor}
    seen = []
    for critic in ("layer_norm", f"layer_norm+{GP}+{FP}"):
        model = make("sac", policy_kwargs=kwargs | {"critic": critic})
        model.policy.set_training_mode(True)
        obs, actions, targets = (x.float() for x in batch())
        loss_of(model.critic(obs, actions), targets).backward()
        model.critic.optimizer.step()
        seen.append({n: x.clone() for n, x in model.critic.named_buffers()})
    assert seen[0].keys() == seen[1].keys()
    assert len(seen[0])
    assert all(torch.equal(seen[0][name], seen[1][name]) for name in seen[0])


def test_a_flat_critic_has_finite_gradients(make: Make) -> None:
    kwargs = {"critic": GP, "critic_options": {GP: {"two_sided": True}}}
    model = in_double(make("sac", policy_kwargs=kwargs))
    with torch.no_grad():
        for head in model.critic.q_networks:
            head[-1].weight.zero_()
    assert all(bool(x.isfinite().all()) for x in step(model).values())


@pytest.mark.parametrize(
    ("critic", "options", "message"),
    [
        (GP, {"strength": 0}, "strength must be a number greater than 0"),
        (GP, {"inputs": "state"}, 'inputs must be "action" or "input", got \'state\''),
        (GP, {"target": -1}, "target must be a number of at least 0"),
        (GP, {"two_sided": 1}, "two_sided must be true or false"),
        (FP, {"strength": True}, "strength must be a number"),
    ],
)
def test_wrong_options_are_refused(critic: str, options: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        resolve_critic(critic, {critic: options})


def test_a_copy_between_forward_and_step_has_no_batch(make: Make) -> None:
    model = make("sac", policy_kwargs={"critic": GP}).policy
    model.set_training_mode(True)
    model.critic(*(x.float() for x in batch()[:2]))
    assert model.followers[GP]._batch is not None
    assert copy.deepcopy(model).followers[GP]._batch is None


def test_without_hidden_layers_the_features_are_the_extractors(make: Make) -> None:
    # As in SB3's DQN for images, whose last hidden layer is the extractor's.
    kwargs = {
        "net_arch": [],
        "critic": "feature_penalty",
        "critic_options": {FP: {"strength": 0.5}},
        "features_extractor_kwargs": {"features_dim": 8},
    }
    env = FakeImageEnv(screen_height=36, screen_width=36, n_channels=1, discrete=True)
    model = make("dqn", "SNCnnPolicy", env=env, policy_kwargs=kwargs, buffer_size=50)
    model.learn(24)
    q_net: Any = model.q_net
    obs = torch.randint(0, 255, (6, 1, 36, 36), dtype=torch.uint8)
    weights = [*q_net.features_extractor.parameters()]
    features = q_net.features_extractor(obs.float() / 255)
    expected = torch.autograd.grad(0.5 * features.square().sum(1).mean(), weights)
    q_net.train()
    model.policy.optimizer.zero_grad()
    (0 * q_net(obs).sum()).backward()
    model.policy.optimizer.step()
    for weight, grad in zip(weights, expected, strict=True):
        torch.testing.assert_close(weight.grad, grad)
    assert features.any()


def test_float32_actions_of_a_float64_critic_lose_nothing(make: Make) -> None:
    model = make("sac", policy_kwargs={"critic": "gradient_penalty"})
    obs, actions, _ = batch()
    actions = actions.float()
    penalty = GradientPenalty(target=0.0)
    with in_float64(model):
        term = penalty.term(model.critic, obs, actions)
        expected = penalty.term(model.critic, obs, actions.double())
    torch.testing.assert_close(term, expected, rtol=1e-13, atol=0)
