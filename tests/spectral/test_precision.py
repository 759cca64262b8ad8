"""Singular vectors where torch has been told to round what products read."""

from typing import Any

import pytest
import torch
from torch import nn

import snrl
from snrl.spectral import native
from snrl.spectral.precision import products, rounds_products


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(0)


def is_rounded() -> bool:
    """Tell whether torch's own products are, which needs a processor that gains by it."""
    weight = torch.randn(256, 256)
    exact = weight.double() @ weight.double()
    return bool((weight @ weight - exact).abs().max() > 1e-2)


@pytest.mark.parametrize("block_size", [4, 20])
@pytest.mark.parametrize("compiled", [True, False], ids=["compiled", "torch"])
@pytest.mark.parametrize("mode", ["normalize", "project", "soft_cap", "hammer"])
def test_sigma_is_exact_whatever_the_precision_of_products(
    mode: str, compiled: bool, block_size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not compiled:
        monkeypatch.setattr(native, "is_available", lambda _=torch.float32: False)
    net: Any = nn.Sequential(nn.Linear(200, 180))
    snrl.spectral_normalize(net, layers="all", coef=1.0, mode=mode, block_size=block_size)
    optimizer = torch.optim.Adam(net.parameters(), lr=1e-3)
    torch.set_float32_matmul_precision("medium")
    x, y = torch.randn(64, 200), torch.randn(64, 180)
    for _ in range(20):
        optimizer.zero_grad()
        (net(x) - 3 * y).square().mean().backward()
        optimizer.step()
    with torch.no_grad():
        sigma = torch.linalg.matrix_norm(net[0].weight.double(), 2).item()
        u, v = (vector.double() for vector in net.spectral.vectors(net[0]))
    tracked = (u @ net[0].weight.double() @ v).abs().item()
    assert u.norm().item() == pytest.approx(1, abs=1e-6)
    assert v.norm().item() == pytest.approx(1, abs=1e-6)
    assert tracked == pytest.approx(sigma, rel=1e-4)
    if mode != "normalize":
        # hammer leaves the others up to 1e-3 above.
        assert sigma <= 1 + (1.1e-3 if mode == "hammer" else 1e-4)


def test_a_precision_is_undone() -> None:
    with products("medium"):
        assert rounds_products() == torch.backends.mkldnn.is_available()
        rounded = is_rounded()
        with products("highest"):
            assert not rounds_products()
            assert not is_rounded()
        assert rounds_products() == torch.backends.mkldnn.is_available()
        assert is_rounded() == rounded
    assert not rounds_products()
    assert not is_rounded()
    assert torch.get_float32_matmul_precision() == "highest"
    torch.set_float32_matmul_precision("medium")
    with products("highest"):
        pass
    assert torch.get_float32_matmul_precision() == "medium"


def test_without_mkldnn_nothing_is_rounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: False)
    torch.set_float32_matmul_precision("medium")
    assert not rounds_products()
