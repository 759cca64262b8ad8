"""Random numbers apart from training's: what measures and evaluations draw changes no run."""

import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np
import torch


class GeneratorStates(NamedTuple):
    """The states of the global generators.

    Attributes:
        python: Of ``random``.
        numpy: Of ``numpy.random``.
        torch: Of torch on the CPU.
        cuda: Of torch on the device, if that is another.
    """

    python: Any
    numpy: Any
    torch: torch.Tensor
    cuda: torch.Tensor | None


def capture(device: torch.device) -> GeneratorStates:
    """Read the states of the global generators: Python's, NumPy's, torch's on CPU and device."""
    return GeneratorStates(
        random.getstate(),
        np.random.get_state(),
        torch.get_rng_state(),
        torch.cuda.get_rng_state(device) if device.type == "cuda" else None,
    )


def install(states: GeneratorStates, device: torch.device) -> None:
    """Set the global generators to states that :func:`capture` has read."""
    random.setstate(states.python)
    np.random.set_state(states.numpy)
    torch.set_rng_state(states.torch)
    if states.cuda is not None:
        torch.cuda.set_rng_state(states.cuda, device)


@contextmanager
def generators_kept(device: torch.device | str = "cpu") -> Iterator[None]:
    """Leave the global generators as they were: Python's, NumPy's, torch's on CPU and device.

    For code that draws from them, such as careless tasks and SB3's policies.

    Args:
        device: The device whose generator is kept as well.
    """
    device = torch.device(device)
    states = capture(device)
    try:
        yield
    finally:
        install(states, device)


class PrivateGenerators:
    """The global generators, exchanged for a set of their own while in use.

    ``with generators.used():`` everything that draws from a global generator draws from the private
    set, which goes on where it left off the time before; outside, nobody notices.

    Args:
        seed: Where the private set starts.
        device: The device whose generator is exchanged as well.
    """

    def __init__(self, seed: int, device: torch.device | str = "cpu") -> None:
        """Seed the private set; the global generators stay as they are."""
        self._device = torch.device(device)
        cuda = self._device.type == "cuda"
        self._states = GeneratorStates(
            random.Random(seed).getstate(),
            np.random.RandomState(seed).get_state(),
            torch.Generator().manual_seed(seed).get_state(),
            torch.Generator(self._device).manual_seed(seed).get_state() if cuda else None,
        )

    @contextmanager
    def used(self) -> Iterator[None]:
        """Exchange the global generators for the private ones, and back at the end."""
        with generators_kept(self._device):
            install(self._states, self._device)
            try:
                yield
            finally:
                self._states = capture(self._device)

    def state_dict(self) -> dict[str, Any]:
        """The states of the private set, for a checkpoint."""
        return self._states._asdict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from the states of :meth:`state_dict`."""
        self._states = GeneratorStates(**state)
