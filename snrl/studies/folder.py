"""The study folder: the study it belongs to, and the one process that works on it."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import yaml

from snrl.runs.errors import ConfigError
from snrl.runs.folder import written_aside
from snrl.runs.lock import locked
from snrl.studies.definition import Study, load_study
from snrl.studies.plan import changes

# More of them say no more.
_SHOWN_CHANGES = 3


@dataclass(frozen=True)
class StudyFolder:
    """Paths of a study's files."""

    path: Path

    @property
    def study(self) -> Path:
        """The study file, with everything in it spelt out."""
        return self.path / "study.yaml"

    @contextmanager
    def held(self) -> Iterator[None]:
        """Keep other processes from working on the study while the block runs.

        Raises:
            ConfigError: If another one does, or the folder cannot be made.
        """
        try:
            self.path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ConfigError(f"cannot make {self.path}: {error.strerror}") from error
        with locked(self.path):
            yield

    def take(self, study: Study) -> None:
        """Make this the folder of a study, or of one that adds runs to the study it has.

        Raises:
            ConfigError: If it belongs to a study with other runs, or cannot be written.
        """
        if self.study.exists():
            self._check(study)
        elif (self.path / "runs").exists():
            raise ConfigError(f"{self.path} holds runs and no study.yaml; give another --out")
        try:
            with written_aside(self.study) as aside:
                content = yaml.safe_dump(study.as_dict(), sort_keys=False, allow_unicode=True)
                aside.write_text(content, encoding="utf-8")
        except OSError as error:
            raise ConfigError(f"cannot write {self.study}: {error.strerror}") from error

    def _check(self, study: Study) -> None:
        differing = changes(load_study(self.study), study)
        if differing:
            more = len(differing) - _SHOWN_CHANGES
            shown = "; ".join(differing[:_SHOWN_CHANGES])
            raise ConfigError(
                f"{self.path} holds runs of another study: {shown}"
                + (f"; and {more} more" if more > 0 else "")
                + "; a study may only grow: take that back, or give another --out"
            )
