"""Who is told of an optimiser's steps, and for how long that is remembered."""

import gc
import weakref
from typing import Any

import pytest
import torch
from torch import nn

from snrl.spectral import SpectralNormalizer
from snrl.spectral.steps import followers, live


class Raises(torch.optim.SGD):
    """An optimiser whose steps fail."""

    def step(self, *_: Any) -> Any:
        raise RuntimeError("no step")


class Wraps(torch.optim.Optimizer):
    """An optimiser in whose step another one steps."""

    inner: torch.optim.Optimizer

    def step(self, *_: Any) -> Any:
        self.inner.step()
        for param in self.param_groups[0]["params"]:
            if param.grad is not None:
                param.data -= 0.1 * param.grad


def normalised() -> tuple[nn.Linear, SpectralNormalizer]:
    layer = nn.Linear(6, 5)
    normalizer = SpectralNormalizer()
    normalizer.add([layer])
    layer.weight.grad = torch.randn_like(layer.weight)
    return layer, normalizer


@pytest.mark.parametrize("fails", [False, True])
def test_what_is_gone_is_not_kept(fails: bool) -> None:
    layer, normalizer = normalised()
    optimizer = (Raises if fails else torch.optim.SGD)(layer.parameters(), 0.1)
    if fails:
        with pytest.raises(RuntimeError, match="no step"):
            optimizer.step()
    else:
        optimizer.step()
    gone = [weakref.ref(x) for x in (layer, normalizer, optimizer)]
    del layer, normalizer, optimizer
    gc.collect()
    assert [x() for x in gone] == [None, None, None]
    assert all(x is not None for x in live)


@pytest.mark.parametrize("outer_is_followed", [False, True])
@pytest.mark.parametrize("inner_is_followed", [False, True])
def test_a_step_within_a_step(outer_is_followed: bool, inner_is_followed: bool) -> None:
    (own, _), (other, _) = held = normalised(), normalised()
    free = nn.Linear(2, 2)
    outer = Wraps((own if outer_is_followed else free).parameters(), {})
    outer.inner = torch.optim.SGD((other if inner_is_followed else free).parameters(), 0.1)
    assert len(followers(outer)) == int(outer_is_followed)
    outer.step()
    for layer, _ in held:
        weight: Any = layer.effective_weight()
        assert torch.linalg.matrix_norm(weight, 2).item() == pytest.approx(1, abs=1e-5)
