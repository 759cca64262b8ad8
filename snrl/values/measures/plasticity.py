"""How well a network can still learn something new."""

import copy
from collections.abc import Callable
from typing import TypeVar

import torch
from torch import Tensor, nn

Module = TypeVar("Module", bound=nn.Module)


def plasticity_loss(
    network: Module,
    predict: Callable[[Module], Tensor],
    *,
    steps: int,
    learning_rate: float,
    generator: torch.Generator,
) -> float:
    """Measure the loss that a copy of a network reaches on fresh random targets.

    After Lyle et al. 2023, section 3.1: from a copy of the weights, a fixed number of steps towards
    targets ``a + sin(10⁵ f(x; ω_0))``, with ``a`` the mean of the current predictions and ``f`` a
    fresh network. Such targets are those of ``a + sin(u)`` with ``u`` uniform and independent for
    each input, which is what is drawn here. We depart from it in that the targets have the spread
    of the current predictions too (1 where they are constant), and in that the loss is given
    relative to their variance: otherwise it would first of all tell how large the values are. Their
    2000 steps on each of 10 tasks are also more than a measure during training can cost.

    Args:
        network: The network, in a mode in which a pass leaves nothing in it. Copied, not modified;
            not its ``.grad`` either.
        predict: Predictions of the copy for a fixed batch, shape ``(n,)``, or ``(critics, n)`` with
            targets for each critic of its own.
        steps: Steps of Adam with its defaults, on the whole batch: the budget.
        learning_rate: Of Adam.
        generator: Draws the targets; on any device.

    Returns:
        Mean square error after the steps over the targets' variance, mean over the critics: 0 is a
        perfect fit, 1 what a constant reaches, about 2 where a network that predicts something
        begins. NaN where it diverges.

    Raises:
        ValueError: If there are fewer than two predictions, which have no spread.
    """
    # A pass without graph comes before the copy: hooks that compute a weight, as those of torch's
    # older spectral_norm, leave one that cannot be copied with its graph.
    with torch.no_grad():
        targets, variance = _targets(predict(network), generator)
    learner = copy.deepcopy(network)
    params = [param for param in learner.parameters() if param.requires_grad]
    optimizer = torch.optim.Adam(params, learning_rate)

    def losses() -> Tensor:
        return (predict(learner) - targets).square().mean(-1) / variance

    for _ in range(steps):
        with torch.enable_grad():
            loss = losses().sum()
        gradients = torch.autograd.grad(loss, params, materialize_grads=True)
        for param, gradient in zip(params, gradients, strict=True):
            param.grad = gradient
        optimizer.step()
    with torch.no_grad():
        return losses().mean().item()


def _targets(predictions: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Draw targets; they and their variance, of the mean and spread of the predictions."""
    if predictions.shape[-1] < 2:
        raise ValueError(f"need at least two predictions, got {tuple(predictions.shape)}")
    draws = torch.rand(
        predictions.shape, dtype=predictions.dtype, device=generator.device, generator=generator
    ).to(predictions.device)
    waves = torch.sin(2 * torch.pi * draws)
    spread, middle = torch.std_mean(waves, -1, correction=0, keepdim=True)
    std, mean = torch.std_mean(predictions, -1, correction=0, keepdim=True)
    std = std.where(std > 0, 1.0)
    return mean + std * (waves - middle) / spread, std.square().squeeze(-1)
