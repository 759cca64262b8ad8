"""What the tests of studies share."""

from .real_runs import copy_run, sb3_runs, zoo_runs
from .study_files import write_study

__all__ = ["copy_run", "sb3_runs", "write_study", "zoo_runs"]
