"""A study from its file to its finished runs."""

import sys
from contextlib import closing
from pathlib import Path

from snrl.runs.lock import check_unlocked
from snrl.studies.check import check_runs
from snrl.studies.definition import Study
from snrl.studies.execute.driver import Driver, Outcome
from snrl.studies.execute.executor import Executor
from snrl.studies.execute.view import make_view
from snrl.studies.folder import StudyFolder
from snrl.studies.overview import overview, timed
from snrl.studies.plan import Plan


def run_study(study: Study, out: Path, executor: Executor, extra: tuple[str, ...]) -> Outcome:
    """Do the runs of a study that are not over, and say on stderr what happens.

    Args:
        study: The study.
        out: Its folder, new or one that holds runs of this study.
        executor: Where runs happen; closed at the end.
        extra: Further arguments of every run, which change nothing that it computes.

    Returns:
        How it ended.

    Raises:
        ConfigError: If a task or a model cannot be made, or the folder is another study's or in
            use.
    """
    with closing(executor):
        # Before what takes seconds.
        check_unlocked(out)
        check_runs(study)
        folder = StudyFolder(out)
        with folder.held():
            folder.take(study)
            plan = Plan(study, out, extra)
            rates = timed(plan)
            print(overview(plan, rates, executor.at_once), file=sys.stderr, flush=True)
            with make_view() as view:
                return Driver(plan, executor, view, rates).execute()
