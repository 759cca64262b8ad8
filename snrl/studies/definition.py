"""A study file: what is compared, on what, how often, and by what measure.

Every combination of a task, an algorithm, a variant and a seed is a run. Options are those of
``python -m snrl.run``, by the same names, checked by the same table. From broad to narrow, the
later one decides: ``common``, then the algorithm's, the task's, the variant's, then ``overrides``
in their order. A null takes an option back, so that the run decides by itself.
"""

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from snrl.runs.config import RunConfig, read_options, resolve
from snrl.runs.errors import ConfigError, suggestion
from snrl.runs.folder import task_folder
from snrl.runs.hyperparameters import ALGORITHMS, options
from snrl.runs.yaml_files import load_mapping

# Intervals over fewer seeds mean little: what is resampled are the seeds.
FEW_SEEDS = 5

_KEYS: Mapping[str, str] = {
    "name": "the study's name, which is its default folder's as well",
    "description": "what the study asks",
    "tasks": "Gymnasium tasks, as a list, or as a mapping to options",
    "algorithms": "algorithms, as a list, or as a mapping to options",
    "variants": "what is compared: a mapping of names to options",
    "seeds": "a list of seeds, or how many (from 0 on)",
    "common": "options of all runs: length, evaluation, anything else",
    "overrides": "options for some tasks, algorithms and variants only",
    "baseline": "the variant that others are compared with, by seed; the first if not given",
    "references": "per task, the returns low and high that normalised returns call 0 and 1",
}
_REQUIRED = ("tasks", "algorithms", "variants", "seeds")
_AXES = {"tasks": "env", "algorithms": "algo", "seeds": "seed"}
# A name is a folder's and a label's: anything that is both, on every system.
_NAME = re.compile(r"[A-Za-z0-9][\w .,+=()-]*(?<![ .])")


@dataclass(frozen=True)
class Reference:
    """Returns of a task that normalisation maps to 0 and 1.

    Attributes:
        low: For instance of a random policy.
        high: For instance of a policy that solves the task.
    """

    low: float
    high: float


@dataclass(frozen=True)
class Override:
    """Options of some runs.

    Attributes:
        tasks: The tasks it is for.
        algorithms: The algorithms it is for.
        variants: The variants it is for.
        options: What it sets.
    """

    tasks: tuple[str, ...]
    algorithms: tuple[str, ...]
    variants: tuple[str, ...]
    options: Mapping[str, Any]


@dataclass(frozen=True)
class Cell:
    """The runs of a study that differ in their seed alone.

    Attributes:
        task: Gymnasium task.
        algorithm: For instance ``"sac"``.
        variant: Name of the variant.
        options: What the study sets for them, without task and seed.
        config: What ``python -m snrl.run`` makes of it, with the first seed.
    """

    task: str
    algorithm: str
    variant: str
    options: Mapping[str, Any]
    config: RunConfig

    def __str__(self) -> str:
        """Its folder inside ``runs/``, which names it everywhere."""
        return f"{task_folder(self.task)}/{self.algorithm}/{self.variant}"


@dataclass(frozen=True)
class Study:
    """A study, checked; equal studies have equal runs.

    Attributes:
        name: Its name.
        description: What it asks.
        tasks: Options by task.
        algorithms: Options by algorithm.
        variants: Options by variant.
        seeds: Seeds of every cell.
        common: Options of all runs.
        overrides: Options of some.
        baseline: The variant that others are compared with.
        references: Returns by task, for normalisation; tasks may be missing.
    """

    name: str
    description: str
    tasks: Mapping[str, Mapping[str, Any]]
    algorithms: Mapping[str, Mapping[str, Any]]
    variants: Mapping[str, Mapping[str, Any]]
    seeds: tuple[int, ...]
    common: Mapping[str, Any]
    overrides: tuple[Override, ...]
    baseline: str
    references: Mapping[str, Reference]

    @cached_property
    def cells(self) -> tuple[Cell, ...]:
        """Every combination of task, algorithm and variant, resolved.

        Raises:
            ConfigError: If a run would refuse what is set for it.
        """
        return tuple(
            self._cell(task, algorithm, variant)
            for task in self.tasks
            for algorithm in self.algorithms
            for variant in self.variants
        )

    def _cell(self, task: str, algorithm: str, variant: str) -> Cell:
        layers = [
            self.common,
            self.algorithms[algorithm],
            self.tasks[task],
            self.variants[variant],
        ]
        layers += [
            override.options
            for override in self.overrides
            if task in override.tasks
            and algorithm in override.algorithms
            and variant in override.variants
        ]
        merged: dict[str, Any] = {}
        for layer in layers:
            merged |= layer
        given = {name: value for name, value in merged.items() if value is not None}
        try:
            config = resolve(algorithm, {"env": task, "seed": self.seeds[0]} | given)
        except ConfigError as error:
            raise ConfigError(f"{task}, {algorithm}, variant {variant}: {error}") from error
        return Cell(task, algorithm, variant, given, config)

    def as_dict(self) -> dict[str, Any]:
        """Return the plain mapping that ``study.yaml`` holds; reading it gives this study."""
        content = asdict(self)
        content["seeds"] = list(self.seeds)
        content["overrides"] = [
            {axis: list(getattr(override, axis)) for axis in ("tasks", "algorithms", "variants")}
            | {"options": dict(override.options)}
            for override in self.overrides
        ]
        return content


def load_study(path: Path) -> Study:
    """Read a study file.

    Args:
        path: YAML of plain values; see the keys of :class:`Study`.

    Returns:
        The study. Whether its tasks exist is not looked at.

    Raises:
        ConfigError: If a key or a value is not what it should be; the message says where.
    """
    return _Reader(path).study()


class _Reader:
    """Reads one file; every message begins with its name."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._raw = load_mapping(path)

    def study(self) -> Study:
        self._check_keys()
        tasks = self._named("tasks", None)
        algorithms = self._named("algorithms", ALGORITHMS)
        variants = self._named("variants", None)
        for name in variants:
            self._check_name("variants", name)
        self._check_task_folders(list(tasks))
        every, values = list(algorithms), self._options
        study = Study(
            name=self._name(),
            description=self._text("description"),
            tasks={name: values(f"tasks, {name}", raw, every) for name, raw in tasks.items()},
            algorithms={
                name: values(f"algorithms, {name}", raw, [name]) for name, raw in algorithms.items()
            },
            variants={
                name: values(f"variants, {name}", raw, every) for name, raw in variants.items()
            },
            seeds=self._seeds(),
            common=values("common", self._raw.get("common"), every),
            overrides=tuple(self._overrides(list(tasks), every, list(variants))),
            baseline=self._baseline(list(variants)),
            references=self._references(list(tasks)),
        )
        self._check_cells(study)
        return study

    def _error(self, message: str) -> ConfigError:
        return ConfigError(f"{self._path}: {message}")

    def _check_keys(self) -> None:
        for key in self._raw:
            if key not in _KEYS:
                in_table = any(key in options(algo) for algo in ALGORITHMS)
                hint = ": options of runs stand under common" if in_table else ""
                hint = hint or suggestion(key, _KEYS)
                raise self._error(f"unknown key {key}{hint} (allowed: {', '.join(_KEYS)})")
        for key in _REQUIRED:
            if self._raw.get(key) in (None, [], {}, 0):
                raise self._error(f"no runs: {key} must be given, {_KEYS[key]}")

    def _text(self, key: str) -> str:
        text = self._raw.get(key, "")
        if not isinstance(text, str):
            raise self._error(f"{key}: expected a text, got {text!r}")
        return text.strip()

    def _name(self) -> str:
        name = self._text("name") or self._path.stem
        self._check_name("name", name)
        return name

    def _check_name(self, key: str, name: str) -> None:
        if not _NAME.fullmatch(name):
            raise self._error(
                f"{key}: {name!r} cannot name a folder; expected letters, digits, spaces and any "
                "of _.,+=()-, with a letter or digit first"
            )

    def _named(self, key: str, known: Sequence[str] | None) -> dict[str, Any]:
        """Read names, with options or without, into a mapping of raw options."""
        raw = self._raw[key]
        if isinstance(raw, str):
            raw = [raw]
        if isinstance(raw, list) and key != "variants":
            for name in raw:
                if not isinstance(name, str):
                    raise self._error(f"{key}: expected names, got {name!r}")
                if raw.count(name) > 1:
                    raise self._error(f"{key}: {name} stands twice, so its runs would")
            raw = dict.fromkeys(raw)
        if not isinstance(raw, Mapping) or not all(isinstance(name, str) for name in raw):
            raise self._error(f"{key}: expected {_KEYS[key]}; got {raw!r}")
        for name in raw:
            if known is not None and name not in known:
                hint = suggestion(name, known)
                raise self._error(f"{key}: unknown {name}{hint} (choose from {', '.join(known)})")
        return dict(raw)

    def _check_task_folders(self, tasks: list[str]) -> None:
        folders: dict[str, str] = {}
        for task in tasks:
            other = folders.setdefault(task_folder(task), task)
            if other != task:
                raise self._error(f"tasks: {other} and {task} would share their run folders")

    def _options(self, where: str, raw: Any, algorithms: Sequence[str]) -> dict[str, Any]:
        """Read options that all of these algorithms must have."""
        if raw is None:
            return {}
        if not isinstance(raw, Mapping):
            raise self._error(f"{where}: expected a mapping of options to values, got {raw!r}")
        values: dict[str, Any] = {}
        for name, value in raw.items():
            for axis, option in _AXES.items():
                if name == option:
                    raise self._error(f"{where}: {name} is set by {axis}")
            having = [algo for algo in algorithms if name in options(algo)]
            if having and having != list(algorithms):
                raise self._error(
                    f"{where}: {name} is an option of {', '.join(having)} alone; it belongs under "
                    f"algorithms, {having[0]}"
                )
            # Null is read here, as it takes back what a broader level has set.
            read = {} if value is None and having else {name: value}
            table = options(algorithms[0])
            values |= {name: None} | read_options(f"{self._path}: {where}", read, table)
        return values

    def _seeds(self) -> tuple[int, ...]:
        raw = self._raw["seeds"]
        seeds = list(range(raw)) if isinstance(raw, int) and not isinstance(raw, bool) else raw
        kind = options(ALGORITHMS[0])["seed"].kind
        try:
            if not isinstance(seeds, list) or not seeds:
                raise TypeError
            read = tuple(kind.read(seed) for seed in seeds)
        except (TypeError, ValueError) as error:
            expects = "a list of seeds such as [0, 1, 2], or how many"
            raise self._error(f"seeds: expected {expects}, got {raw!r}") from error
        for seed in read:
            if read.count(seed) > 1:
                raise self._error(f"seeds: {seed} stands twice, so its runs would")
        return read

    def _overrides(
        self, tasks: list[str], algorithms: list[str], variants: list[str]
    ) -> Iterator[Override]:
        known = {"tasks": tasks, "algorithms": algorithms, "variants": variants}
        raw = self._raw.get("overrides") or []
        if not isinstance(raw, list):
            raise self._error(f"overrides: expected a list, got {raw!r}")
        for number, item in enumerate(raw, 1):
            where = f"overrides, number {number}"
            if not isinstance(item, Mapping) or not item.get("options"):
                raise self._error(f"{where}: expected a mapping with options, got {item!r}")
            for key in item:
                if key not in (*known, "options"):
                    hint = suggestion(str(key), (*known, "options"))
                    raise self._error(f"{where}: unknown key {key}{hint}")
            chosen = {axis: self._chosen(where, axis, item, names) for axis, names in known.items()}
            values = self._options(where, item["options"], chosen["algorithms"])
            yield Override(options=values, **chosen)

    def _chosen(
        self, where: str, axis: str, item: Mapping[str, Any], known: list[str]
    ) -> tuple[str, ...]:
        raw = item.get(axis, known)
        names = [raw] if isinstance(raw, str) else raw
        if not isinstance(names, list) or not names:
            raise self._error(f"{where}: {axis}: expected names, got {raw!r}")
        for name in names:
            self._check_one_of(f"{where}: {axis}", name, known)
        return tuple(names)

    def _check_one_of(self, where: str, name: Any, known: Sequence[str]) -> None:
        if name not in known:
            hint = suggestion(str(name), known)
            raise self._error(f"{where}: {name} is not in the study{hint} ({', '.join(known)})")

    def _baseline(self, variants: list[str]) -> str:
        baseline = self._raw.get("baseline")
        if baseline is None:
            return variants[0]
        self._check_one_of("baseline", baseline, variants)
        return str(baseline)

    def _references(self, tasks: list[str]) -> dict[str, Reference]:
        raw = self._raw.get("references") or {}
        if not isinstance(raw, Mapping):
            raise self._error(f"references: expected {_KEYS['references']}; got {raw!r}")
        references = {}
        for task, item in raw.items():
            self._check_one_of("references", task, tasks)
            try:
                if not isinstance(item, Mapping) or set(item) != {"low", "high"}:
                    raise TypeError
                low, high = float(item["low"]), float(item["high"])
                if not (math.isfinite(low) and math.isfinite(high) and low < high):
                    raise ValueError
            except (TypeError, ValueError) as error:
                expects = "two returns such as {low: -1200, high: -150}, low below high"
                raise self._error(
                    f"references, {task}: expected {expects}, got {item!r}"
                ) from error
            references[task] = Reference(low, high)
        return references

    def _check_cells(self, study: Study) -> None:
        """Refuse what a run would refuse, and runs that are the same under two names."""
        try:
            cells = study.cells
        except ConfigError as error:
            raise self._error(str(error)) from error
        for number, cell in enumerate(cells):
            for other in cells[:number]:
                if cell.config == other.config:
                    raise self._error(
                        f"variants {other.variant} and {cell.variant} are the same run on "
                        f"{cell.task} with {cell.algorithm}"
                    )
