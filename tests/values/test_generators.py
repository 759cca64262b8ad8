import random

import numpy as np
import pytest
import torch

from snrl.values.generators import PrivateGenerators, generators_kept


def draw() -> tuple[float, float, float]:
    return random.random(), float(np.random.rand()), float(torch.rand(()))


@pytest.fixture(autouse=True)
def seeded() -> None:
    random.seed(1)
    np.random.seed(1)
    torch.manual_seed(1)


def test_what_is_drawn_inside_is_not_noticed_outside() -> None:
    with generators_kept():
        first = draw()
    assert draw() == first


def test_also_after_an_error() -> None:
    first = []

    def fail() -> None:
        with generators_kept():
            first.append(draw())
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert [draw()] == first


def test_the_private_set_goes_on_where_it_was() -> None:
    private, again = PrivateGenerators(3), PrivateGenerators(3)
    with private.used():
        first = [draw(), draw()]
    outside = draw()
    with private.used():
        first.append(draw())
    with again.used():
        assert [draw() for _ in range(3)] == first
    random.seed(1)
    np.random.seed(1)
    torch.manual_seed(1)
    assert draw() == outside


def test_seeds_differ() -> None:
    draws = []
    for seed in (0, 1):
        with PrivateGenerators(seed).used():
            draws.append(draw())
    assert all(a != b for a, b in zip(*draws, strict=True))


def test_the_private_set_survives_an_error() -> None:
    private, again = PrivateGenerators(3), PrivateGenerators(3)
    draws = []

    def fail() -> None:
        with private.used():
            draws.append(draw())
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    with private.used():
        draws.append(draw())
    with again.used():
        assert [draw(), draw()] == draws


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_cuda_too() -> None:
    torch.cuda.manual_seed(1)
    expected = torch.rand(3, device="cuda")
    torch.cuda.manual_seed(1)
    with PrivateGenerators(3, "cuda").used():
        torch.rand(5, device="cuda")
    assert torch.equal(torch.rand(3, device="cuda"), expected)
