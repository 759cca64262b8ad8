from pathlib import Path

import pytest
import yaml

from snrl.studies.collect.documents import read_json, read_yaml
from snrl.studies.collect.record import Notices

TAGGED = """
!!python/object/apply:collections.OrderedDict
- - - algo
    - sac
  - - called
    - !!python/object/apply:os.system ['touch {flag}']
  - - pair
    - !!python/tuple [1, 2]
  - - function
    - !!python/name:builtins.print ''
  - - object
    - !!python/object:collections.Counter {{a: 1}}
"""


def test_tags_are_read_as_data_and_nothing_is_run(tmp_path: Path) -> None:
    flag = tmp_path / "flag"
    path = tmp_path / "args.yml"
    path.write_text(TAGGED.format(flag=flag))
    notices = Notices()
    content = read_yaml(path, notices)
    assert content["algo"] == "sac"
    assert content["called"] == [f"touch {flag}"]
    assert content["pair"] == [1, 2]
    assert content["function"] == "builtins.print"
    assert content["object"] == {"a": 1}
    assert notices.lines == ()
    assert not flag.exists()
    # The same file does run where it is loaded as Python's.
    yaml.unsafe_load(path.read_text())
    assert flag.exists()


@pytest.mark.parametrize("content", ["a: [1", "- 1\n- 2", "!!binary x: 1", "\x00"])
def test_damaged_yaml_is_skipped_with_one_notice(tmp_path: Path, content: str) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(content)
    notices = Notices()
    assert read_yaml(path, notices) == read_yaml(path, notices) == {}
    assert len(notices.lines) == 1
    assert notices.lines[0].startswith(f"{path}: skipped, is ")


def test_json(tmp_path: Path) -> None:
    path = tmp_path / "status.json"
    notices = Notices()
    assert read_json(path, notices) == {}
    assert notices.lines == ()
    path.write_text('{"status": "do')
    assert read_json(path, notices) == {}
    assert notices.lines == (f"{path}: skipped, is damaged or no JSON",)
