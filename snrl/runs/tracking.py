"""Weights & Biases, at arm's length.

Everything that touches W&B happens in a thread of its own, fed by a queue: a run neither waits
for it nor fails with it. This is the only module that imports wandb, and only once a run tracks.
"""

import os
import queue
import sys
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stable_baselines3.common.logger import KVWriter, filter_excluded_keys
from tqdm import tqdm

if TYPE_CHECKING:
    from wandb.sdk.wandb_run import Run

# How long the server may take to answer before the run is recorded in offline files.
_INIT_SECONDS = 10
# How long the end of a run waits for W&B; `wandb sync` can do the rest at leisure.
_FINISH_SECONDS = 20.0
_THREAD = "snrl-wandb"


@dataclass(frozen=True)
class Tracking:
    """Where a run is tracked; None leaves the choice to W&B's own settings.

    Attributes:
        online: Whether to send to the server; otherwise files stay in the run folder.
        project: W&B project.
        entity: W&B user or team.
        group: W&B group.
        tags: W&B tags.
    """

    online: bool = False
    project: str | None = None
    entity: str | None = None
    group: str | None = None
    tags: tuple[str, ...] = ()


class WandbWriter(KVWriter):
    """An SB3 logger format that passes every key on to W&B, at its environment step.

    Args:
        tracking: Where to.
        folder: The run folder.
        name: Name of the W&B run.
        config: The resolved configuration and the command line.
        run_id: W&B's own name of the run, by which a run that is resumed stays one; W&B makes one
            if None.
        after: Rows up to this step are not passed on, as W&B has them.
    """

    def __init__(
        self,
        tracking: Tracking,
        folder: Path,
        name: str,
        config: Mapping[str, Any],
        run_id: str | None = None,
        after: int = -1,
    ) -> None:
        """Start the thread that talks to W&B."""
        self._tracking = tracking
        self._folder = folder
        self._name = name
        self._config = dict(config)
        self._run_id = run_id
        self._after = after
        self._rows: queue.SimpleQueue[tuple[int, dict[str, Any]] | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._work, name=_THREAD, daemon=True)
        self._thread.start()

    def write(
        self,
        key_values: dict[str, Any],
        key_excluded: dict[str, tuple[str, ...]],
        step: int = 0,
    ) -> None:
        """Queue a row of the log."""
        if step <= self._after:
            return
        row = filter_excluded_keys(key_values, key_excluded, "wandb")
        self._rows.put((step, {key: _plain(value) for key, value in row.items()}))

    def close(self) -> None:
        """Let W&B finish, for a limited time."""
        self._rows.put(None)
        self._thread.join(_FINISH_SECONDS)
        if self._thread.is_alive():
            warn(
                f"W&B did not finish within {_FINISH_SECONDS:.0f} s; "
                f"its files are in {self._folder / 'wandb'}"
            )

    def _work(self) -> None:
        # SystemExit and the like from wandb must not reach threading's hook either.
        try:
            run = self._start()
            while (row := self._rows.get()) is not None:
                step, values = row
                run.log({key: _shown(value) for key, value in values.items()}, step=step)
            run.finish()
            # The files are written by a service, which closes them when it ends.
            sys.modules["wandb"].teardown()
        except BaseException as error:
            warn(f"W&B stopped tracking: {_first_line(error)}")

    def _start(self) -> "Run":
        if not self._tracking.online:
            # Its service keeps a log there; artifacts, which the cache is for, are not used.
            os.environ.setdefault("WANDB_CACHE_DIR", str(self._folder / "wandb" / "cache"))
        import wandb

        settings = wandb.Settings(silent=True, console="off", init_timeout=_INIT_SECONDS)
        wandb.setup(settings)

        def init(online: bool) -> "Run":
            return wandb.init(
                mode="online" if online else "offline",
                project=self._tracking.project or os.environ.get("WANDB_PROJECT", "snrl"),
                entity=self._tracking.entity,
                group=self._tracking.group,
                tags=self._tracking.tags or None,
                name=self._name,
                id=self._run_id,
                # Offline, files with the same id are what makes it one run.
                resume="allow" if online and self._run_id else None,
                config=self._config,
                dir=self._folder,
                settings=settings,
            )

        if not self._tracking.online:
            return init(online=False)
        try:
            # wandb.init would ask for a key on a terminal.
            if not wandb.login(prompt=False, verify=False):
                raise RuntimeError("no API key; `wandb login` stores one")
            return init(online=True)
        except Exception as error:
            warn(f"W&B tracks offline, in {self._folder / 'wandb'}: {_first_line(error)}")
            return init(online=False)


def is_unfinished() -> bool:
    """Tell whether W&B is still at work in this process, so that its exit hooks might wait."""
    return any(thread.name == _THREAD for thread in threading.enumerate())


def _plain(value: Any) -> Any:
    """Turn NumPy and torch scalars, which W&B would store as objects, into numbers."""
    return value.item() if getattr(value, "ndim", None) == 0 else value


def _shown(value: Any) -> Any:
    """Turn several numbers, which SB3's loggers show as a histogram, into W&B's."""
    several = getattr(value, "ndim", 0) > 0
    return sys.modules["wandb"].Histogram(value) if several else value


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]


def note(message: str) -> None:
    """Print a line on stderr, above a progress bar if there is one."""
    tqdm.write(f"snrl.run: {message}", file=sys.stderr)


def warn(message: str) -> None:
    """Print a warning on stderr, as :func:`note` does."""
    note(f"warning: {message}")
