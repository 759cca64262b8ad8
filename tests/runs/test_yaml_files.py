from pathlib import Path

import pytest

from snrl.runs.errors import ConfigError
from snrl.runs.yaml_files import load_mapping


def test_a_key_that_stands_twice_is_refused_with_its_line(tmp_path: Path) -> None:
    file = tmp_path / "file.yaml"
    file.write_text("a: 1\nb: {c: 1}\na: 2\n")
    with pytest.raises(ConfigError, match=r"file\.yaml, line 3: the key a stands twice"):
        load_mapping(file)


def test_a_merged_key_may_be_overridden(tmp_path: Path) -> None:
    file = tmp_path / "file.yaml"
    file.write_text("a: &a {x: 1, y: 2}\nb:\n  <<: *a\n  x: 3\n")
    assert load_mapping(file)["b"] == {"x": 3, "y": 2}
