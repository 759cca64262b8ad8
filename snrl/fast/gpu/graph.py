"""Work that is the same every time, recorded once and replayed."""

import gc
import logging
from collections.abc import Callable
from functools import cache

import torch

Work = Callable[[], None]

# As torch's notes on CUDA graphs ask for: libraries make handles and workspaces at their first
# calls, kernels are compiled.
_WARM_UPS = 3


class Graph:
    """Work on tensors that stay where they are.

    The first calls do it as it is written, on a stream of their own; the next one records it, and
    from then on it is one launch. Where a device has nothing to record with, or cannot record it,
    it is done as written.

    Attributes:
        is_recorded: Whether it is one launch by now.
    """

    def __init__(self, work: Work, device: torch.device) -> None:
        """Keep the work.

        Args:
            work: Reads and writes memory that stays, and waits for nothing on the host: what Python
                does in it happens in the first calls and while it is recorded, never again.
            device: Where all of it happens.
        """
        self._work = work
        self._device = device
        self._left = _WARM_UPS
        self.is_recorded = False

    @torch.no_grad()
    def __call__(self) -> None:
        """Do the work once; whatever is launched on the device's current stream later sees it."""
        if self._left == 0:
            self._record()
        self._left -= 1
        if self.is_recorded:
            self._work()
        else:
            _aside(self._work, self._device)

    def _record(self) -> None:
        record = RECORDERS.get(self._device.type)
        # Where autograd looks for what is not finite, it asks the device.
        if record is None or torch.is_anomaly_enabled():
            return
        try:
            # What it was made of may hold whoever holds this.
            self._work = record(self._work, self._device)
            self.is_recorded = True
        except RuntimeError as error:
            # Nothing has been done yet.
            logging.getLogger("snrl").warning(
                "%s could not record the update, and does it operation by operation from now on "
                "(if that fails, Stable-Baselines3's own class, or --no-fast, is the way): %s",
                *(self._device, error.__context__ or error),
            )


def _aside(work: Work, device: torch.device) -> None:
    if device.type != "cuda":
        work()
        return
    own = _stream(device)
    main = torch.cuda.current_stream(device)
    own.wait_stream(main)
    with torch.cuda.stream(own):
        work()
    main.wait_stream(own)


def _recorded(work: Work, device: torch.device) -> Work:
    graph, before = torch.cuda.CUDAGraph(), torch.cuda.current_stream(device)
    # What is freed while recording, as a graph that nobody needs any more, would break it.
    gc.collect()
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        # Other threads, as of W&B or of a progress bar, may use the device meanwhile.
        with (
            torch.cuda.device(device),
            torch.cuda.graph(graph, stream=_stream(device), capture_error_mode="thread_local"),
        ):
            work()
    finally:
        # A recording that has failed leaves its own.
        torch.cuda.set_stream(before)
        if was_enabled:
            gc.enable()
    return graph.replay


@cache
def _stream(device: torch.device) -> torch.cuda.Stream:
    """The one stream for first calls and recordings: libraries keep memory for each there is."""
    return torch.cuda.Stream(device)  # type: ignore[no-untyped-call]


# What a device records with: from work, which is not done by it, to what does it.
RECORDERS: dict[str, Callable[[Work, torch.device], Work]] = {"cuda": _recorded}
