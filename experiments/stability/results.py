"""Data, figures and tables of the study of stability.

    python experiments/stability/results.py          # figures and tables, from the data kept here
    python experiments/stability/results.py --take   # the data before, from studies/

The studies themselves are ``python -m snrl.compare experiments/<name>.yaml``, for each of
``STUDIES``. Of their runs the folders here keep the tables of all runs and evaluations, as Parquet
files, without what was logged of training and time in between; a whole report is made of them by
``python -m snrl.report experiments/stability/<name>``.
"""

import argparse
import shutil
import tempfile
from dataclasses import replace
from pathlib import Path

from snrl.report import write_report
from snrl.studies.collect import collect, write_parquet

HERE = Path(__file__).parent
STUDIES = (
    "stability_pilot_default",
    "stability_pilot_utd8",
    "stability_default",
    "stability_utd8",
)
KEPT = ("eval/", "values/", "sn/")
FIGURES = ("curves_bias.svg", "curves_return.svg")
TABLES = ("differences.md", "returns.md")


def take(name: str) -> None:
    """Keep the data of a study that has been run."""
    table = collect(Path("studies", name))
    measures = table.evaluations["measure"].astype(str)
    kept = table.evaluations[measures.str.startswith(KEPT)].reset_index(drop=True)
    kept["measure"] = kept["measure"].cat.remove_unused_categories()
    write_parquet(replace(table, evaluations=kept), HERE / name)


def draw(name: str) -> None:
    """Make the figures and tables of a study from its data."""
    with tempfile.TemporaryDirectory() as folder:
        report = write_report(HERE / name, Path(folder)).parent
        for part, files in (("figures", FIGURES), ("tables", TABLES)):
            for file in files:
                shutil.copy(report / part / file, HERE / name / file)


def main() -> None:
    """Take the data if asked to, then draw."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("studies", nargs="*", default=STUDIES, help="names; all if not given")
    parser.add_argument("--take", action="store_true", help="first take the data from studies/")
    arguments = parser.parse_args()
    for name in arguments.studies:
        if arguments.take:
            take(name)
        draw(name)


if __name__ == "__main__":
    main()
