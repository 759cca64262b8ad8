"""Prints the table from ``results.csv``.

python experiments/values_cost/table.py [--results quick.csv]
"""

import argparse
import csv
from collections import defaultdict
from pathlib import Path

Row = dict[str, str]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--results", type=Path, default=Path(__file__).with_name("results.csv"))
    with parser.parse_args().results.open() as file:
        rows = list(csv.DictReader(file))
    settings: dict[tuple[str, ...], dict[str, Row]] = defaultdict(dict)
    for row in rows:
        key = tuple(row[column] for column in ("env", "values", "threads", "rounds", "seed"))
        settings[key][row["clock"]] = row
    print("| task, steps between evaluations | set | threads | training step | evaluation ", end="")
    print("| measurement | share of the time | of the CPU time | as a whole run logs it |")
    print("|---|---|---|---|---|---|---|---|---|")
    for (env, values, threads, *_), clocks in sorted(settings.items(), key=lambda x: _order(x[0])):
        wall, cpu = clocks["wall"], clocks["cpu"]
        logged = wall["logged_share"]
        print(
            f"| {env}, {int(wall['eval_freq']):,} | `{values}` | {threads} "
            f"| {float(wall['step_ms']):.1f} ms | {float(wall['evaluation_s']):.2f} s "
            f"| {float(wall['measurement_s']):.2f} s "
            f"| {float(wall['share']):.2%} | {float(cpu['share']):.2%} "
            f"| {format(float(logged), '.2%') if logged else ''} |"
        )


def _order(key: tuple[str, ...]) -> tuple[str, bool, int]:
    env, values, threads, *_ = key
    return env, values == "full", int(threads)


if __name__ == "__main__":
    main()
