import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from snrl.studies.dashboards.workspace import workspace
from snrl.studies.panels import PANELS, sections

# W&B's library itself is written for an older pydantic.
pytestmark = pytest.mark.filterwarnings("ignore:Pydantic V1 style")


def _spec(**options: Any) -> dict[str, Any]:
    view = workspace("someone", "critics", **options)._to_model()
    assert (view.entity, view.project) == ("someone", "critics")
    spec: dict[str, Any] = json.loads(view.spec.model_dump_json(by_alias=True, exclude_none=True))
    return spec["section"]


def test_the_saved_spec_holds_every_panel_in_its_section() -> None:
    bank = _spec()["panelBankConfig"]["sections"]
    assert [section["name"] for section in bank] == list(sections())
    drawn = [
        (section["name"], panel["config"]["metrics"])
        for section in bank
        for panel in section["panels"]
    ]
    assert drawn == [(panel.section, [key]) for panel in PANELS for key in panel.measures]


def test_titles_and_axes_are_the_panels_and_lines_are_means_with_a_band() -> None:
    plots = [
        panel["config"]
        for section in _spec()["panelBankConfig"]["sections"]
        for panel in section["panels"]
    ]
    by_title = {plot["chartTitle"]: plot for plot in plots}
    for panel in PANELS:
        plot = by_title[panel.title]
        assert plot["yAxisTitle"] == panel.label
        assert plot.get("yLogScale", False) == panel.log
        assert plot["xAxis"] == "_step"
        assert (plot["groupAgg"], plot["groupArea"]) == ("mean", "stderr")


def test_runs_are_grouped_by_task_algorithm_and_group() -> None:
    (runs,) = _spec()["runSets"]
    keys = [(key["section"], key["name"].removesuffix(".value")) for key in runs["grouping"]]
    assert keys == [("config", "env"), ("config", "algo"), ("run", "group")]
    assert runs["filters"]["filters"] == []


def test_a_study_and_a_task_filter_the_runs() -> None:
    (runs,) = _spec(study='deep "critics"', task="Hopper-v5")["runSets"]
    tags, task = runs["filters"]["filters"]
    assert (tags["key"]["name"], tags["op"], tags["value"]) == ("tags", "IN", ['deep "critics"'])
    assert (task["key"]["name"], task["op"], task["value"]) == ("env", "=", "Hopper-v5")


def _command(tmp_path: Path, **environment: str) -> "subprocess.CompletedProcess[str]":
    kept = {key: value for key, value in os.environ.items() if not key.startswith("WANDB")}
    home = {"HOME": str(tmp_path), "NETRC": str(tmp_path / "netrc"), "WANDB_SILENT": "true"}
    return subprocess.run(
        [sys.executable, "-m", "snrl.studies.dashboards", "wandb", "--project", "p"],
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
        env=kept | home | environment,
        check=False,
    )


def test_without_a_login_one_line_says_what_to_do(tmp_path: Path) -> None:
    done = _command(tmp_path)
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1] == (
        "snrl.studies.dashboards: error: not logged in to W&B: run `wandb login` first"
    )
    assert "Traceback" not in done.stderr


def test_without_a_server_one_line_says_so(tmp_path: Path) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{closed.getsockname()[1]}"
        done = _command(tmp_path, WANDB_API_KEY="a" * 40, WANDB_BASE_URL=address)
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1].startswith(
        "snrl.studies.dashboards: error: W&B did not save the workspace: "
    )
    assert "Traceback" not in done.stderr


def test_without_the_library_one_line_says_which_to_install(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from snrl.studies.dashboards.__main__ import main

    monkeypatch.setitem(sys.modules, "wandb_workspaces.expr", None)
    assert main(["wandb", "--project", "p"]) == 2
    assert 'pip install "snrl[dashboards]"' in capsys.readouterr().err
