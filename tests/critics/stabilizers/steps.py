"""A step of the critic's optimiser, and its gradient by a loss written down in float64."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from snrl.spectral.layers import SpectralLinear

BATCH = 12


def in_double(model: Any) -> Any:
    """Convert a model's networks to float64."""
    model.policy.double()
    if model.policy.spectral is not None:
        model.policy.spectral.reset()
    model.policy.set_training_mode(True)
    return model


def batch(seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    """Observations, which SB3 makes float32, actions and targets of Pendulum, in float64."""
    generator = torch.Generator().manual_seed(seed)
    obs = torch.randn(BATCH, 3, generator=generator).double()
    actions = torch.rand(BATCH, 1, generator=generator, dtype=torch.float64) * 2 - 1
    return obs, actions, 5 * torch.randn(BATCH, 1, generator=generator, dtype=torch.float64)


def loss_of(values: Any, targets: Tensor) -> Tensor:
    """SAC's."""
    return 0.5 * sum(nn.functional.mse_loss(value, targets) for value in values)


def step(model: Any) -> dict[str, Tensor]:
    """Do a step as SB3's SAC does; gives the gradients that the optimiser read."""
    obs, actions, targets = batch()
    optimizer = model.critic.optimizer
    loss = loss_of(model.critic(obs, actions), targets)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    return {name: x.grad.clone() for name, x in model.critic.named_parameters()}


class Written:
    """A critic's loss, in plain torch operations on copies of its parameters."""

    def __init__(self, critic: Any, extractor: Callable[..., Tensor] | None = None) -> None:
        self.parameters = {
            name: x.detach().clone().requires_grad_() for name, x in critic.named_parameters()
        }
        self._critic = critic
        self._extractor = extractor

    def features(self, obs: Tensor) -> Tensor:
        return obs if self._extractor is None else self._extractor(obs, self.parameters)

    def hidden(self, head: int, x: Tensor) -> Tensor:
        """What the output layer reads."""
        return self._forward(head, x, len(self._critic.q_networks[head]) - 1)

    def values(self, head: int, x: Tensor) -> Tensor:
        return self._forward(head, x, len(self._critic.q_networks[head]))

    def _forward(self, head: int, x: Tensor, end: int) -> Tensor:
        for i, module in enumerate(self._critic.q_networks[head][:end]):
            if isinstance(module, nn.ReLU):
                x = x.clamp(min=0)
                continue
            weight, bias = (self.parameters[f"qf{head}.{i}.{x}"] for x in ("weight", "bias"))
            if isinstance(module, nn.LayerNorm):
                centred = x - x.mean(1, keepdim=True)
                x = centred / (centred.square().mean(1, keepdim=True) + 1e-5).sqrt() * weight + bias
                continue
            if isinstance(module, SpectralLinear):
                weight = weight / torch.linalg.matrix_norm(weight, 2)
            x = x @ weight.T + bias
        return x

    def gradients(self, term: Callable[["Written", Tensor, Tensor], Tensor]) -> dict[str, Tensor]:
        """Differentiate SAC's loss and a term of it."""
        obs, actions, targets = batch()
        x = torch.cat([self.features(obs), actions], 1)
        count = len(self._critic.q_networks)
        loss = loss_of([self.values(k, x) for k in range(count)], targets)
        total = loss + sum(term(self, k, obs, actions) for k in range(count))
        names = list(self.parameters)
        grads = torch.autograd.grad(total, list(self.parameters.values()))
        return dict(zip(names, grads, strict=True))


def assert_close(got: dict[str, Tensor], expected: dict[str, Tensor], rtol: float = 1e-9) -> None:
    assert got.keys() == expected.keys()
    for name, value in expected.items():
        error = ((got[name] - value).abs().max() / value.abs().max()).item()
        assert error <= rtol, f"{name}: {error:.1e}"
