"""The files in which a run logs numbers, each read as far as it is whole."""

import csv
import io
import json
import math
import zipfile
from collections import defaultdict
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, TypeGuard

import numpy as np
from numpy.typing import NDArray

from snrl.studies.collect.record import Notices, Series

STEPS = "time/total_timesteps"
# SB3's own stats_window_size, over which rollout/ep_rew_mean is a mean.
_WINDOW = 100


def read_evaluations(path: Path, notices: Notices) -> dict[str, Series]:
    """Read ``evaluations.npz`` of SB3's ``EvalCallback``: the mean over the episodes of each."""
    try:
        # Opened here, because np.load leaves a file open that it fails to read.
        with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
            steps = np.asarray(arrays["timesteps"], dtype=np.int64)
            names = {
                "eval/mean_reward": "results",
                "eval/mean_ep_length": "ep_lengths",
                "eval/success_rate": "successes",
            }
            found = {
                measure: np.asarray(arrays[name], dtype=np.float64).reshape(len(steps), -1)
                for measure, name in names.items()
                if name in arrays
            }
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        notices.say(path, f"skipped, is damaged or no file of evaluations ({_line(error)})")
        return {}
    return {
        measure: Series(steps, values.mean(axis=1))
        for measure, values in found.items()
        if values.size
    }


def read_json_lines(path: Path, notices: Notices) -> dict[str, Series]:
    """Read SB3's ``progress.json``: every number of every line that is whole."""
    text = _text(path, notices)
    if text is None:
        return {}
    rows = []
    lines = text.splitlines()
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
            if not isinstance(row, dict):
                raise ValueError("not a mapping")
        except ValueError:
            what = "the last line is half-written" if number == len(lines) else "damaged"
            notices.say(path, f"line {number} skipped: {what}")
            continue
        rows.append(row)
    return _series(rows)


def read_csv(path: Path, notices: Notices) -> dict[str, Series]:
    """Read SB3's ``progress.csv``."""
    text = _text(path, notices)
    if text is None:
        return {}
    return _series(_csv_rows(path, text, notices))


def read_monitors(paths: Iterable[Path], notices: Notices) -> tuple[dict[str, Series], str | None]:
    """Read the files of SB3's ``Monitor``, one for each environment of the run.

    Returns:
        ``rollout/ep_rew_mean`` and ``rollout/ep_len_mean``, means over the last 100 episodes as in
        SB3's log, at the end of each episode; and the task's id, if a file names it. Episodes of
        several environments are put in order by their time.
    """
    task: str | None = None
    episodes: list[tuple[float, float, float]] = []
    for path in paths:
        text = _text(path, notices)
        if text is None:
            continue
        header, _, table = text.partition("\n")
        try:
            named = json.loads(header.removeprefix("#")).get("env_id")
        except (ValueError, AttributeError):
            notices.say(path, "skipped, has no header of SB3's Monitor")
            continue
        task = task or (str(named) if named else None)
        rows = _csv_rows(path, table, notices)
        try:
            episodes += [(row["t"], row["l"], row["r"]) for row in rows]
        except KeyError:
            notices.say(path, "skipped, lacks columns r, l and t of SB3's Monitor")
    if not episodes:
        return {}, task
    _, lengths, returns = np.array(sorted(episodes), dtype=np.float64).T
    steps = lengths.cumsum().astype(np.int64)
    return {
        "rollout/ep_rew_mean": Series(steps, _window_mean(returns)),
        "rollout/ep_len_mean": Series(steps, _window_mean(lengths)),
    }, task


def _window_mean(values: NDArray[np.float64]) -> NDArray[np.float64]:
    means = [values[max(0, end - _WINDOW) : end].mean() for end in range(1, len(values) + 1)]
    return np.array(means)


def _csv_rows(path: Path, text: str, notices: Notices) -> list[dict[str, float]]:
    """The numbers of a table; a last line without its end may hold half a number, and is left."""
    if text and not text.endswith("\n"):
        notices.say(path, "the last line skipped: it is half-written")
        text = text[: text.rfind("\n") + 1]
    rows = []
    for row in csv.DictReader(io.StringIO(text)):
        numbers = {}
        for name, value in row.items():
            try:
                numbers[name] = float(value)
            except (TypeError, ValueError):
                continue
        rows.append(numbers)
    return rows


def _series(rows: Iterable[Mapping[str, Any]]) -> dict[str, Series]:
    """Sort the numbers by measure and step; of several at one step, as after a resume, the last."""
    values: defaultdict[str, dict[int, float]] = defaultdict(dict)
    for row in rows:
        step = row.get(STEPS)
        if not _is_number(step) or not math.isfinite(step):
            continue
        for name, value in row.items():
            if name != STEPS and _is_number(value):
                values[name][int(step)] = float(value)
    return {name: _sorted(found) for name, found in values.items()}


def _sorted(values: Mapping[int, float]) -> Series:
    steps = np.fromiter(values, dtype=np.int64, count=len(values))
    order = steps.argsort()
    return Series(steps[order], np.fromiter(values.values(), np.float64, len(values))[order])


def _is_number(value: object) -> TypeGuard[float]:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _text(path: Path, notices: Notices) -> str | None:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except FileNotFoundError:
        return None
    except OSError as error:
        notices.say(path, f"skipped, cannot be read ({_line(error)})")
        return None


def _line(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
