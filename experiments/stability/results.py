"""Data, figures and tables of the study of stability.

    python experiments/stability/results.py          # figures and tables, from the data kept here
    python experiments/stability/results.py --take   # the data before, from studies/

Printed is what the pilots chose by: the distance of the bias from 0, the mean of all evaluations
after the first update, of both algorithms and seeds; and what the studies asked: variant minus
plain over all tasks, paired by task and seed, at the last evaluation, of the return and of the
distance of the bias from 0, both normalised.

Pilots and studies themselves are ``python -m snrl.compare experiments/<name>.yaml``. Of their runs
the folders here keep the tables, as Parquet files, without what was logged of training and time in
between; a whole report is made of them by ``python -m snrl.report experiments/stability/<name>``.
"""

import argparse
import shutil
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from snrl.report import write_report
from snrl.studies.collect import collect, write_parquet
from snrl.studies.panels import BIAS, RETURN
from snrl.studies.statistics import summarise
from snrl.studies.statistics.differences import ALL_TASKS

if TYPE_CHECKING:
    import pandas as pd

HERE = Path(__file__).parent
PILOTS = ("stability_pilot_default", "stability_pilot_utd8")
STUDIES = ("stability_default", "stability_utd8", "stability_bfloat16")
KEPT = ("eval/", "values/", "sn/")
FIGURES = ("curves_bias.svg", "curves_return.svg", "curves_dormant.svg", "curves_rank.svg")
TABLES = ("differences.md", "returns.md", "bias.md")
# No property of values: what measuring them took.
OTHER = ("values/time_share",)
LEVELS = ("values/dormant_0.025", "values/srank")
ASKED = {RETURN: "return", "values/bias_mean_normalised": "bias"}


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


def choice(name: str) -> None:
    """Print what a pilot chose by."""
    table = collect(HERE / name)
    begun = table.runs["config/learning_starts"].max()
    trained = table.evaluations[table.evaluations["timesteps"] > begun]
    means = {
        what: logged.groupby("variant", observed=True, sort=False)["value"].mean()
        for what, logged in (
            ("bias", _of(trained, BIAS).assign(value=lambda rows: rows["value"].abs())),
            ("return", _of(trained, RETURN)),
        )
    }
    print(f"\n{name}\n\n| critic | mean distance of the bias from 0 | mean return |\n|---|---|---|")
    for variant, bias in means["bias"].sort_values().items():
        print(f"| {variant} | {bias:.0f} | {means['return'][variant]:.0f} |".replace("-", "−"))


def _of(logged: "pd.DataFrame", measure: str) -> "pd.DataFrame":
    return logged[logged["measure"] == measure]


def answer(name: str) -> None:
    """Print what a study found over all tasks."""
    table = collect(HERE / name)
    found = summarise(table, hows=("final",)).differences
    found = found[found["task"] == ALL_TASKS]
    head = [f"{what}, difference | p, after Holm" for what in ASKED.values()]
    print(f"\n{name}\n\n| algorithm | critic | {' | '.join(head)} |\n|---|---|---|---|---|---|")
    for (algorithm, variant), rows in found.groupby(["algo", "variant"], sort=False):
        cells = [_cell(rows[rows["measure"] == measure]) for measure in ASKED]
        print(f"| {algorithm.upper()} | {variant} | {' | '.join(cells)} |")
    print("\nEstablished of what was not asked beforehand:")
    others = found[(found["grade"] == "established") & ~found["measure"].isin([*ASKED, *OTHER])]
    for sentence in others["sentence"]:
        print(f"- {sentence}")
    print("\nMeans over tasks and seeds before the first update, and at the end:")
    for measure in LEVELS:
        levels = _of(table.evaluations, measure)
        for when in (table.runs["config/learning_starts"].max(), levels["timesteps"].max()):
            then = levels[levels["timesteps"] == when].groupby(["algo", "variant"], observed=True)
            means = (f"{' '.join(key)} {mean:.3g}" for key, mean in then["value"].mean().items())
            print(f"- {measure} after {when} steps: {', '.join(means)}")


def _cell(rows: "pd.DataFrame") -> str:
    if rows.empty:
        return "– | –"
    row = rows.iloc[0]
    difference = f"{row['difference']:+.3f} ({row['low']:+.3f} to {row['high']:+.3f})"
    return f"{difference} | {row['p_holm']:.2g}".replace("-", "−")


def main() -> None:
    """Take the data if asked to, then draw."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("names", nargs="*", default=(*PILOTS, *STUDIES), help="all if not given")
    parser.add_argument("--take", action="store_true", help="first take the data from studies/")
    arguments = parser.parse_args()
    for name in arguments.names:
        if arguments.take:
            take(name)
        draw(name)
        (choice if name in PILOTS else answer)(name)


if __name__ == "__main__":
    main()
