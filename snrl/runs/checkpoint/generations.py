"""Checkpoints on disk: numbered, whole or not at all, the last two of them.

A checkpoint is a manifest, ``<number>.json``, and the files that it names with their digests. The
manifest is written last, so that it names nothing that is not there; files that no manifest names
are left-overs.
"""

import hashlib
import json
import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from snrl.runs.errors import ConfigError
from snrl.runs.folder import written_aside

# Of the layout of all files here. A change that an older version would misread raises it.
FORMAT = 1

Write = Callable[[Path], None]


class DamagedError(Exception):
    """A checkpoint is not what was written; the message says in what."""


@dataclass(frozen=True)
class Generation:
    """A checkpoint that is whole.

    Attributes:
        folder: Where its files are.
        number: Which it is.
        files: The digest of each file.
        content: What else was written of it.
    """

    folder: Path
    number: int
    files: Mapping[str, str]
    content: Mapping[str, Any]


class Generations:
    """The checkpoints in a folder.

    Args:
        folder: Made when there is something to write.
    """

    def __init__(self, folder: Path) -> None:
        """Look for nothing yet."""
        self._folder = folder
        self._last: Generation | None = None

    def is_empty(self) -> bool:
        """Tell whether nothing was ever completed here."""
        return not self._manifests()

    def newest_whole(self, say: Callable[[str], None]) -> Generation | None:
        """Find the newest checkpoint that is whole, and go on from its number.

        Args:
            say: Takes a line for each that is damaged.

        Returns:
            The checkpoint; None if there is none.

        Raises:
            ConfigError: If one is of a newer version.
        """
        numbers = self._manifests()
        for number in numbers:
            self._refuse_newer(number)
        for number in numbers:
            try:
                self._last = self._checked(number)
            except DamagedError as error:
                say(f"checkpoint {number} in {self._folder} is damaged: {error}")
            else:
                return self._last
        return None

    def write(
        self, new: Mapping[str, Write], kept: Iterable[str], content: Mapping[str, Any]
    ) -> Generation:
        """Write a checkpoint, and drop those before the last.

        Args:
            new: Writes each new file, by its name.
            kept: Names of files of the checkpoint before that belong to this one too.
            content: Plain values, for the manifest.

        Returns:
            The checkpoint.

        Raises:
            OSError: If it cannot be written, as on a full disk; those before are as they were,
                but for the oldest.
        """
        self._folder.mkdir(exist_ok=True)
        last = self._last
        number = 1 if last is None else last.number + 1
        # The oldest goes first, so that there are never more than two, nor space for more.
        self._drop()
        try:
            files = {name: last.files[name] for name in kept} if last else {}
            for name, write in new.items():
                with written_aside(self._folder / name) as aside:
                    write(aside)
                    files[name] = _digest(aside)
            body = {"format": FORMAT, "number": number, "files": files, "content": dict(content)}
            with written_aside(self._folder / f"{number}.json") as aside:
                aside.write_text(json.dumps(body | {"digest": _digest_of(body)}) + "\n")
            _sync(self._folder)
        except BaseException:
            self._drop()
            raise
        self._last = Generation(self._folder, number, files, dict(content))
        return self._last

    def _manifests(self) -> list[int]:
        """The numbers of the checkpoints, newest first."""
        found = [path.stem for path in self._folder.glob("*.json")]
        return sorted((int(name) for name in found if name.isdecimal()), reverse=True)

    def _read(self, number: int) -> dict[str, Any]:
        try:
            body = json.loads((self._folder / f"{number}.json").read_bytes())
        except (OSError, ValueError) as error:
            raise DamagedError(f"{number}.json cannot be read") from error
        if not isinstance(body, dict):
            raise DamagedError(f"{number}.json is no manifest")
        return body

    def _refuse_newer(self, number: int) -> None:
        try:
            found = self._read(number).get("format")
        except DamagedError:
            return
        if isinstance(found, int) and found > FORMAT:
            raise ConfigError(
                f"{self._folder} was written by a newer version of snrl (format {found}; this "
                f"version reads up to {FORMAT}): upgrade snrl to go on with this run"
            )

    def _checked(self, number: int) -> Generation:
        body = self._read(number)
        if body.pop("digest", None) != _digest_of(body):
            raise DamagedError(f"{number}.json is not what was written")
        for name, digest in body["files"].items():
            try:
                found = _digest(self._folder / name)
            except OSError as error:
                raise DamagedError(f"{name} cannot be read") from error
            if found != digest:
                raise DamagedError(f"{name} is not what was written")
        return Generation(self._folder, number, body["files"], body["content"])

    def _drop(self) -> None:
        """Remove checkpoints but the last, and what belongs to none."""
        last = self._last
        kept = {f"{last.number}.json", *last.files} if last else set()
        # Manifests first, as they must not name what is gone.
        for path in sorted(self._folder.iterdir(), key=lambda x: x.suffix != ".json"):
            if path.name not in kept:
                path.unlink(missing_ok=True)


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _digest_of(body: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()


def _sync(folder: Path) -> None:
    """Let renames reach the disk."""
    file = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(file)
    finally:
        os.close(file)
