import re
from pathlib import Path

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.custom_scalar import layout_pb2, metadata

from snrl.runs.errors import ConfigError
from snrl.studies.dashboards.__main__ import main
from snrl.studies.dashboards.tensorboard import write_layout
from snrl.studies.panels import PANELS


def _read(folder: Path) -> layout_pb2.Layout:
    events = EventAccumulator(str(folder))
    events.Reload()
    (event,) = events.Tensors(metadata.CONFIG_SUMMARY_TAG)
    return layout_pb2.Layout.FromString(event.tensor_proto.string_val[0])


def test_the_event_file_holds_every_panel(tmp_path: Path) -> None:
    read = _read(write_layout(tmp_path))
    found = [
        (category.title, chart.title, tuple(chart.multiline.tag))
        for category in read.category
        for chart in category.chart
    ]
    expected = [
        (panel.section, key if place else panel.title, (f"^{re.escape(key)}$",))
        for panel in PANELS
        for place, key in enumerate(panel.measures)
    ]
    assert found == expected


def test_a_second_layout_replaces_the_first(tmp_path: Path) -> None:
    assert write_layout(tmp_path) == write_layout(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["layout"]
    _read(tmp_path / "layout")


def test_a_folder_that_is_not_there_is_refused_in_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(ConfigError, match="is not a folder"):
        write_layout(tmp_path / "missing")
    assert main(["tensorboard", str(tmp_path / "missing")]) == 2
    assert len(capsys.readouterr().err.splitlines()) == 1


def test_the_command_says_how_to_look_at_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["tensorboard", str(tmp_path)]) == 0
    assert f"tensorboard --logdir {tmp_path}" in capsys.readouterr().out
