"""Randomness of a module's own: a critic that draws leaves the global generator alone.

With the same seed, a run with such a critic and one without explore with the same noise.
"""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn


@contextmanager
def generator_kept() -> Iterator[None]:
    """Draw, inside, from a stream of its own, which follows from the global generator's state.

    The global generator of the CPU is afterwards as it was.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(int(torch.randint(2**62, ())))
        yield


class Drawing(nn.Module):
    """A module that draws random numbers in its forward.

    Every draw has a generator that follows from a seed and the number of draws before it. Both are
    in the state dict, so that training goes on with the same numbers where it was saved.
    """

    def __init__(self) -> None:
        """Take a seed that follows from the global generator, which is as it was afterwards."""
        super().__init__()
        with generator_kept():
            self.reseed()

    def reseed(self) -> None:
        """Begin anew with a seed drawn from the global generator."""
        self._seed = int(torch.randint(2**62, ()))
        self._draws = 0

    def generator(self, device: torch.device) -> torch.Generator:
        """Make the generator of the next draw."""
        self._draws += 1
        # Neighbouring seeds give unrelated streams.
        return torch.Generator(device).manual_seed((self._seed + self._draws) % 2**63)

    def get_extra_state(self) -> Tensor:
        """Give what a state dict keeps: seed and number of draws."""
        return torch.tensor((self._seed, self._draws))

    def set_extra_state(self, state: Any) -> None:
        """Go on where a state dict was."""
        self._seed, self._draws = (int(x) for x in state)


def reseed(modules: Iterable[nn.Module]) -> None:
    """Give every part that draws a seed of its own; the global generator is as it was afterwards.

    Parts that were built one after the other without moving the generator have the same, and so has
    a part into which another's state was loaded, as SB3 makes a target.

    Args:
        modules: Mutated.
    """
    with generator_kept():
        for part in (part for module in modules for part in module.modules()):
            if isinstance(part, Drawing):
                part.reseed()


@contextmanager
def drawn_again(module: nn.Module) -> Iterator[None]:
    """Let the parts of a module draw, inside, what they have drawn last.

    Their counts of draws are afterwards as they were.
    """
    counts = [(part, part._draws) for part in module.modules() if isinstance(part, Drawing)]
    for part, draws in counts:
        part._draws = draws - 1
    try:
        yield
    finally:
        for part, draws in counts:
            part._draws = draws
