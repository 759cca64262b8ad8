"""The plan as it is shown."""

import json
from collections.abc import Callable
from pathlib import Path

from snrl.studies.definition import load_study
from snrl.studies.overview import overview, timed
from snrl.studies.plan import Plan

Write = Callable[..., Path]


def test_the_numbers_are_there(write_study: Write, tmp_path: Path) -> None:
    tasks = {"Pendulum-v1": None, "Hopper-v5": {"total_timesteps": 20_000}}
    plan = Plan(load_study(write_study(name="trial", tasks=tasks)), tmp_path / "out")
    run = plan.runs[0]
    run.folder.mkdir(parents=True)
    status = {"status": "done", "timesteps": 1000, "seconds": 100}
    (run.folder / "status.json").write_text(json.dumps(status))

    text = overview(plan, timed(plan), 2)
    first, *_ = text.splitlines()
    counts = "2 tasks × 2 algorithms × 2 variants × 3 seeds = 24 runs, 252,000 steps"
    assert first == f"trial: {counts}; in {tmp_path / 'out'}"
    rows = {tuple(line.split()[:2]): line for line in text.splitlines() if "plain, sn" in line}
    assert rows["Hopper-v5", "td3"].split()[4:7] == ["0", "to", "2"]
    assert rows["Hopper-v5", "td3"].split()[-4:] == ["episodes", "6", "0", "120,000"]
    assert rows["Pendulum-v1", "sac"].split()[-3:] == ["6", "1", "6,000"]
    assert "every 2,000, 10 episodes" in rows["Hopper-v5", "sac"]
    assert "  plain (baseline): as the study has it" in text
    assert "  sn: sn true, sn_coef 2.0" in text
    assert "1 of 24 runs are done" in text
    assert "for 23 runs, 2 at once: from the steps per second of this study's own runs for" in text
    assert "note: 3 seeds; intervals over fewer than 5 say little" in text


def test_five_seeds_need_no_note(write_study: Write, tmp_path: Path) -> None:
    plan = Plan(load_study(write_study(seeds=5)), tmp_path)
    assert "note:" not in overview(plan, timed(plan), 1)


def test_what_is_done_is_not_estimated(write_study: Write, tmp_path: Path) -> None:
    plan = Plan(load_study(write_study()), tmp_path)
    for run in plan.runs:
        run.folder.mkdir(parents=True)
        (run.folder / "status.json").write_text('{"status": "done", "timesteps": 1000}')
    text = overview(plan, timed(plan), 1)
    assert "12 of 12 runs are done" in text
    assert "about" not in text
