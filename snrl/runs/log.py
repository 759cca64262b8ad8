"""Where the log of a run goes: the folder's JSON lines, TensorBoard, W&B."""

from pathlib import Path
from typing import Any

from stable_baselines3.common.logger import (
    JSONOutputFormat,
    KVWriter,
    Logger,
    TensorBoardOutputFormat,
)

from snrl.runs.config import RunConfig
from snrl.runs.folder import RunFolder
from snrl.runs.result import run_title
from snrl.runs.resume import Resumed
from snrl.runs.tracking import Tracking, WandbWriter


class _Lines(JSONOutputFormat):
    """SB3's JSON lines, behind those that there are."""

    def __init__(self, path: Path) -> None:
        self.file = path.open("a")


class _Events(TensorBoardOutputFormat):
    """SB3's TensorBoard files; from a step on, TensorBoard drops what earlier ones hold."""

    def __init__(self, folder: Path, purge_step: int) -> None:
        from torch.utils.tensorboard.writer import SummaryWriter

        self.writer = SummaryWriter(str(folder), purge_step=purge_step)
        self._is_closed = False


def make_logger(
    config: RunConfig,
    folder: RunFolder,
    resumed: Resumed,
    tensorboard: bool,
    tracking: Tracking | None,
    status: dict[str, Any],
) -> Logger:
    """Make a run's logger.

    Args:
        config: The run.
        folder: Its folder, whose log ends where the run goes on.
        resumed: Where that is.
        tensorboard: Whether to write TensorBoard files.
        tracking: Whether and where to track with W&B.
        status: The command line, and W&B's name of the run.

    Returns:
        SB3's logger.
    """
    if resumed.generation is None:
        folder.progress.unlink(missing_ok=True)
    formats: list[KVWriter] = [_Lines(folder.progress)]
    if tensorboard:
        begin = resumed.timesteps + 1 if resumed.generation else 0
        formats.append(_Events(folder.path / "tensorboard", begin))
    if tracking is not None:
        name = f"{run_title(config)} {config.env} seed {config.seed}"
        record = config.as_dict() | {"command": status["command"]}
        run_id = status["wandb_id"]
        formats.append(WandbWriter(tracking, folder.path, name, record, run_id, resumed.logged))
    return Logger(str(folder.path), formats)
