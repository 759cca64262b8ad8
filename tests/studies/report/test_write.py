"""The report's files against the statistics they are made from."""

import json
import shutil
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from snrl.report import main
from snrl.runs.errors import ConfigError
from snrl.studies.collect import collect
from snrl.studies.panels import BIAS, PANELS, RETURN
from snrl.studies.report import write_report
from snrl.studies.report.comparison import text
from snrl.studies.statistics import summarise
from tests.studies.report.conftest import OPTIONS, VARIANT
from tests.studies.report.synthetic import write_study


def _rows(markdown: str) -> list[list[str]]:
    lines = [line for line in markdown.splitlines() if line.startswith("| ")][1:]
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines]


@pytest.mark.parametrize(("name", "measure"), [("returns", RETURN), ("bias", BIAS)])
def test_the_tables_are_the_statistics(runs: Path, report: Path, name: str, measure: str) -> None:
    cells = summarise(
        collect(runs), measures=[RETURN, measure], hows=("final",), options=OPTIONS
    ).cells
    cells = cells[cells["measure"] == measure]
    rows = _rows((report / "tables" / f"{name}.md").read_text(encoding="utf-8"))
    assert len(rows) == len(cells) == 12
    expected = {
        (row.algo, text(row.iqm), f"{text(row.iqm_low)} to {text(row.iqm_high)}", text(row.mean))
        for row in cells.itertuples()
    }
    assert {(row[1], row[4], row[5], row[6]) for row in rows} == expected


def test_differences_are_the_statistics(runs: Path, report: Path) -> None:
    summary = summarise(collect(runs), measures=[RETURN], hows=("final",), options=OPTIONS)
    rows = _rows((report / "tables" / "differences.md").read_text(encoding="utf-8"))
    found = sorted(row[5] for row in rows if row[3] == "eval/mean\\_reward")
    assert found == sorted(text(value) for value in summary.differences["difference"])


def test_the_page_says_what_the_statistics_say(runs: Path, report: Path) -> None:
    summary = summarise(collect(runs), measures=[RETURN], hows=("final",), options=OPTIONS)
    page = (report / "index.html").read_text(encoding="utf-8")
    sentences = summary.differences.loc[summary.differences["variant"] == "sn", "sentence"]
    assert len(sentences) == 4
    for sentence in sentences:
        if "Pendulum" in sentence:
            assert sentence in page
    # Two seeds are not five.
    assert "as few as 2 seeds" in page
    assert "interval means little" in page


def test_latex_has_its_rules_and_escapes_names(report: Path) -> None:
    latex = (report / "tables" / "returns.tex").read_text(encoding="utf-8")
    for rule in (r"\toprule", r"\midrule", r"\bottomrule"):
        assert latex.count(rule) == 1
    assert r"\textless{}script\textgreater{}alert(2)\$x\$ 50\% \textbackslash{}a\_b \&" in latex
    body = latex.split(r"\midrule")[1].split(r"\bottomrule")[0]
    ends = [line for line in body.splitlines() if line.strip()]
    assert all(line.endswith(r"\\") for line in ends)
    assert all(line.replace(r"\&", "").count("&") == 8 for line in ends)


def test_every_panel_has_a_figure_in_both_formats(report: Path) -> None:
    from matplotlib.image import imread

    drawn = {path.stem for path in (report / "figures").glob("*.svg")}
    assert drawn >= {f"curves_{panel.name}" for panel in PANELS}
    assert drawn >= {"returns", "improvement", "profiles", "paired_eval_mean_reward"}
    for path in (report / "figures").glob("*.svg"):
        tree = ElementTree.parse(path)
        assert tree.getroot().tag.endswith("svg")
        words = "".join(tree.getroot().itertext())
        assert VARIANT in words
    for name in drawn:
        image = imread(report / "figures" / f"{name}.png")
        assert min(image.shape[:2]) > 150
        # Something is drawn: not one colour.
        assert image[..., :3].std() > 0.02


def test_figures_and_page_give_a_variant_the_same_colour(report: Path) -> None:
    svg = (report / "figures" / "curves_return.svg").read_text(encoding="utf-8")
    page = (report / "index.html").read_text(encoding="utf-8")
    start = page.index('id="data">') + len('id="data">')
    data = json.loads(page[start : page.index("</script>", start)])
    for variant in data["variants"]:
        assert f"stroke: {variant['colour']}" in svg


def test_the_data_is_what_was_read(runs: Path, report: Path) -> None:
    table = collect(runs)
    read = pd.read_parquet(report / "evaluations.parquet")
    assert read["value"].to_numpy() == pytest.approx(table.evaluations["value"].to_numpy())
    assert len(pd.read_parquet(report / "runs.parquet")) == 24


def test_it_needs_nothing_from_elsewhere(report: Path) -> None:
    page = (report / "index.html").read_text(encoding="utf-8")
    assert "default-src 'none'" in page
    assert 'src="http' not in page
    assert '<link rel="stylesheet"' not in page
    assert page.count("plotly.js v") == 1
    assert not list(report.rglob(".*"))


def test_damaged_and_failed_runs_cost_a_notice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import snrl.studies.report.write as write

    monkeypatch.setattr(write, "_draw", lambda *_: None)
    paths = write_study(tmp_path, ("Pendulum-v1",), ("sac",), seeds=3, evaluations=4)
    (paths[0] / "evaluations.npz").write_bytes(b"PK half a file")
    progress = paths[1] / "progress.json"
    progress.write_bytes(progress.read_bytes()[:-40])
    status = json.loads((paths[2] / "status.json").read_text())
    status |= {"status": "failed", "reason": "MemoryError: <b>no room</b>"}
    (paths[2] / "status.json").write_text(json.dumps(status))
    (paths[3] / "status.json").write_text("{")
    page = write_report(tmp_path, options=OPTIONS)
    assert page == tmp_path / "report" / "index.html"
    text = page.read_text(encoding="utf-8")
    for path in (paths[0] / "evaluations.npz", progress, paths[3] / "status.json"):
        assert f"<li>{path.relative_to(tmp_path)}: " in text
    assert "seed2: failed after 10,000 steps, MemoryError: &lt;b&gt;no room&lt;/b&gt;" in text
    # The report's own folder holds no runs.
    assert write_report(tmp_path, options=OPTIONS) == page


def test_runs_of_others_are_reported_as_far_as_they_go(
    sb3_runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import snrl.studies.report.write as write

    monkeypatch.setattr(write, "_draw", lambda *_: None)
    page = write_report(sb3_runs, tmp_path, options=OPTIONS).read_text(encoding="utf-8")
    assert "1 task × 1 algorithm × 1 variant × 2 seeds: 2 runs" in page
    assert "Nothing is compared" in page


def test_a_big_study_is_a_small_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import snrl.studies.report.write as write

    monkeypatch.setattr(write, "_draw", lambda *_: None)
    monkeypatch.setattr(write, "_CURVE_RESAMPLES", 20)
    variants = ("plain", "sn", "sn hidden", "sn all", "layer norm")
    write_study(tmp_path, variants=variants, seeds=10, evaluations=100)
    page = write_report(tmp_path, options=OPTIONS)
    text = page.read_text(encoding="utf-8")
    assert "200 runs, 200 done" in text
    assert page.stat().st_size < 20e6


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda path: path / "missing", "is not a folder"),
        (lambda path: path, "holds no runs"),
    ],
)
def test_a_folder_without_runs_is_refused_in_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], make: object, said: str
) -> None:
    (tmp_path / "notes.txt").write_text("nothing")
    assert callable(make)
    assert main([str(make(tmp_path)), "--quiet"]) == 2
    error = capsys.readouterr().err
    assert error.startswith("snrl.report: error: ")
    assert said in error
    assert error.count("\n") == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["notes.txt"]


def test_bad_input_is_refused_in_one_line(
    runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([str(runs), "--baseline", "snn", "--quiet", "--out", str(tmp_path)]) == 2
    assert "there are no runs of the baseline snn; variants: " in capsys.readouterr().err
    taken = tmp_path / "file"
    taken.write_text("")
    with pytest.raises(ConfigError, match="cannot write the report"):
        write_report(runs, taken, options=OPTIONS)
    with pytest.raises(SystemExit, match="2"):
        main([str(runs), "--confidence", "95"])
    assert "between 0 and 1, got 95" in capsys.readouterr().err


def test_what_is_not_installed_is_named(runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "jinja2", None)
    with pytest.raises(ConfigError, match=r'needs jinja2: pip install "snrl\[studies\]"'):
        write_report(runs)


def test_the_command_tells_how_far_it_is_and_ends_with_the_path(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    study, out, view = tmp_path / "study", tmp_path / "out", tmp_path / "view"
    write_study(study, ("Pendulum-v1",), ("sac",), seeds=2, evaluations=3)
    shutil.copytree(study, tmp_path / "before")
    options = ["--resamples", "50", "--how", "auc", "--zoo-view", str(view)]
    assert main([str(study), "--out", str(out), *options]) == 0
    said = capsys.readouterr()
    assert said.out == f"report: {out / 'index.html'}\n"
    assert all(line.startswith("snrl.report: ") for line in said.err.splitlines())
    assert (view / "plain" / "sac" / "Pendulum-v1_1").is_dir()
    page = (out / "index.html").read_text(encoding="utf-8")
    assert f"python -m snrl.report {study} --out {out} --how auc --resamples 50" in page
    # Nothing is written into the runs.
    names = [
        sorted(str(path.relative_to(root)) for path in root.rglob("*"))
        for root in (study, tmp_path / "before")
    ]
    assert names[0] == names[1]


def test_help_loads_nothing_heavy() -> None:
    import subprocess

    code = (
        "import sys; sys.argv = ['-m']; sys.orig_argv = ['python', '-m', 'snrl.report'];"
        "import snrl.report as face\n"
        "try: face.main(['--help'])\n"
        "except SystemExit: pass\n"
        "print(sorted({'torch', 'pandas', 'matplotlib', 'plotly'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


def test_curves_are_the_runs_interquartile_means(runs: Path, report: Path) -> None:
    page = (report / "index.html").read_text(encoding="utf-8")
    start = page.index('id="data">') + len('id="data">')
    data = json.loads(page[start : page.index("</script>", start)])
    logged = collect(runs).evaluations
    logged = logged[(logged["measure"] == BIAS) & (logged["task"] == "Pendulum-v1")]
    task = data["tasks"].index("Pendulum-v1")
    for curve in data["curves"][BIAS]:
        t, a, v = data["cells"][curve["c"]]
        if t != task:
            continue
        rows = logged[
            (logged["algo"] == data["algos"][a])
            & (logged["variant"] == data["variants"][v]["name"])
        ]
        # Of two seeds the interquartile mean is the mean.
        means = rows.groupby("timesteps")["value"].mean()
        assert data["grids"][curve["x"]] == means.index.tolist()
        assert curve["y"] == pytest.approx(means.to_numpy(), rel=1e-4)
        assert (np.array(curve["lo"]) <= curve["y"]).all()


def test_runs_without_a_reason_have_none_in_the_table(report: Path) -> None:
    page = (report / "index.html").read_text(encoding="utf-8")
    table = page[page.index('id="run-table"') : page.index('id="repeat"')]
    assert table.count("<tr") == 25
    assert "<td>None</td>" not in table
