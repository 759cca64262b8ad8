"""A layout for TensorBoard's custom scalars: the panels that matter, over all runs of a folder."""

import re
import shutil
import tempfile
from pathlib import Path

from snrl.runs.errors import ConfigError
from snrl.studies.panels import sections

FOLDER = "layout"


def layout() -> dict[str, dict[str, list[object]]]:
    """The panels as ``SummaryWriter.add_custom_scalars`` takes them: tags are expressions."""
    return {
        section: {
            measure if place else panel.title: ["Multiline", [f"^{re.escape(measure)}$"]]
            for panel in panels
            for place, measure in enumerate(panel.measures)
        }
        for section, panels in sections().items()
    }


def write_layout(folder: Path) -> Path:
    """Write the layout into a folder of runs, where ``tensorboard --logdir`` finds it.

    TensorBoard merges it with the runs below the same folder. An earlier layout is replaced.

    Args:
        folder: Holds the runs, or is one.

    Returns:
        The folder of the event file.

    Raises:
        ConfigError: If there is no such folder, it cannot be written, or TensorBoard is missing.
    """
    if not folder.is_dir():
        raise ConfigError(f"{folder} is not a folder; give one that holds runs")
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise ConfigError(
            'a TensorBoard layout needs tensorboard: pip install "snrl[tensorboard]"'
        ) from error
    target = folder / FOLDER
    try:
        # Written aside: TensorBoard may be reading.
        with tempfile.TemporaryDirectory(prefix=f".{FOLDER}", dir=folder) as aside:
            with SummaryWriter(aside) as writer:
                writer.add_custom_scalars(layout())
            shutil.rmtree(target, ignore_errors=True)
            Path(aside).rename(target)
            Path(aside).mkdir()
    except OSError as error:
        raise ConfigError(f"cannot write {target}: {error.strerror or error}") from error
    target.chmod(0o755)
    return target
