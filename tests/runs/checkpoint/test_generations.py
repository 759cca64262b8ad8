import json
import os
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from snrl.runs.checkpoint.generations import FORMAT, Generations
from snrl.runs.errors import ConfigError


def write(generations: Generations, text: str, kept: tuple[str, ...] = ()) -> None:
    files = {f"{text}.txt": lambda path: path.write_text(text), f"{text}.kept": Path.touch}
    generations.write(files, kept, {"text": text})


def found(folder: Path) -> tuple[str | None, list[str]]:
    said: list[str] = []
    generation = Generations(folder).newest_whole(said.append)
    if generation is None:
        return None, said
    for name in generation.files:
        assert (folder / name).exists()
    text = generation.content["text"]
    assert (folder / f"{text}.txt").read_text() == text
    return text, said


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def test_the_newest_is_found_and_two_are_kept(tmp_path: Path) -> None:
    folder = tmp_path / "checkpoint"
    generations = Generations(folder)
    assert generations.is_empty()
    assert found(folder) == (None, [])
    write(generations, "a")
    write(generations, "b", kept=("a.kept",))
    write(generations, "c", kept=("a.kept",))
    assert names(folder) == {
        *("2.json", "b.txt", "b.kept", "a.kept"),
        *("3.json", "c.txt", "c.kept"),
    }
    assert found(folder) == ("c", [])
    again = Generations(folder)
    again.newest_whole(pytest.fail)
    write(again, "d", kept=("c.kept",))
    assert names(folder) >= {"3.json", "4.json", "a.kept", "c.kept"}
    assert "b.txt" not in names(folder)


class KilledError(BaseException):
    """Raised where a process might be killed."""


@pytest.mark.parametrize("moment", range(40))
def test_a_kill_at_any_moment_leaves_one_that_is_whole(
    moment: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At each call to the system that changes the folder, with nothing cleaned up after it."""
    folder = tmp_path / "checkpoint"
    generations = Generations(folder)
    write(generations, "a")
    write(generations, "b", kept=("a.kept",))
    calls = 0

    def dying(call: Any, *args: Any, **kwargs: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls > moment:
            raise KilledError
        return call(*args, **kwargs)

    with monkeypatch.context() as patch:
        for owner, name in ((Path, "replace"), (Path, "unlink"), (Path, "write_text")):
            call = getattr(owner, name)
            patch.setattr(owner, name, lambda *a, _call=call, **k: dying(_call, *a, **k))
        patch.setattr(os, "fsync", partial(dying, os.fsync))
        died = False
        try:
            write(generations, "c", kept=("a.kept",))
        except KilledError:
            died = True
    if moment == 39:
        assert not died  # all moments were tried
    text, said = found(folder)
    assert text in (("b", "c") if died else ("c",))
    assert said == []
    again = Generations(folder)
    again.newest_whole(pytest.fail)
    write(again, "d")
    assert found(folder) == ("d", [])


@pytest.mark.parametrize("name", ["2.json", "b.txt", "b.kept"])
@pytest.mark.parametrize("damage", ["truncated", "changed", "gone"])
def test_damage_is_found_and_said(name: str, damage: str, tmp_path: Path) -> None:
    generations = Generations(tmp_path)
    write(generations, "a")
    write(generations, "b")
    path = tmp_path / name
    content = path.read_bytes()
    if damage == "gone":
        path.unlink()
    elif damage == "truncated":
        path.write_bytes(content[: len(content) // 2] if content else b"x")
    else:
        path.write_bytes(content.replace(b"b", b"c", 1) if content else b"x")
    text, said = found(tmp_path)
    assert text == "a"
    if (name, damage) == ("2.json", "gone"):
        assert said == []  # as if it had never been completed
    else:
        (line,) = said
        assert line.startswith(f"checkpoint 2 in {tmp_path} is damaged: {name} ")
    write(generations, "c")


def test_all_may_be_damaged(tmp_path: Path) -> None:
    generations = Generations(tmp_path)
    for text in ("a", "b"):
        write(generations, text)
        (tmp_path / f"{text}.txt").unlink()
    text, said = found(tmp_path)
    assert (text, len(said)) == (None, 2)
    assert not Generations(tmp_path).is_empty()


def test_a_newer_version_is_refused(tmp_path: Path) -> None:
    write(Generations(tmp_path), "a")
    manifest = tmp_path / "1.json"
    body = json.loads(manifest.read_text())
    manifest.write_text(json.dumps(body | {"format": FORMAT + 1}))
    with pytest.raises(ConfigError, match=r"newer version of snrl \(format 2; .* up to 1\): upgr"):
        Generations(tmp_path).newest_whole(pytest.fail)


def test_a_write_that_fails_leaves_nothing_of_itself(tmp_path: Path) -> None:
    generations = Generations(tmp_path)
    write(generations, "a")
    before = names(tmp_path)

    def fail(path: Path) -> None:
        path.write_text("half")
        raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space"):
        generations.write({"first": Path.touch, "second": fail}, ["a.txt"], {})
    assert names(tmp_path) == before
    write(generations, "b")
    assert found(tmp_path) == ("b", [])
