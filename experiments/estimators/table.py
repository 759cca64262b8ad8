"""Prints the table from ``results.csv``.

python experiments/estimators/table.py [--results quick.csv]
"""

import argparse
import csv
from collections import defaultdict
from pathlib import Path

ROUNDING = 1e-7
COLUMNS = {"error_max_early": "first quarter, max", "error_median_late": "rest, median",
           "error_99_late": "99%", "error_max_late": "max"}  # fmt: skip


def shown(error: str) -> str:
    """Float32 tells nothing below its rounding."""
    return f"{float(error):.0e}" if float(error) > ROUNDING else "<1e-7"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--results", type=Path, default=Path(__file__).with_name("results.csv"))
    with parser.parse_args().results.open() as file:
        rows = list(csv.DictReader(file))
    runs: dict[tuple[str, ...], dict[str, dict[str, dict[str, str]]]] = defaultdict(dict)
    for row in rows:
        run = (row["algorithm"], row["learning_rate"], row["seed"], row["updates"], row["threads"])
        runs[run].setdefault(row["estimator"], {})[row["network"]] = row
    for (algorithm, rate, seed, updates, threads), by_estimator in runs.items():
        print(
            f"\n{algorithm.upper()}, learning rate {float(rate):g}, {updates} updates, "
            f"seed {seed}, threads: {threads}; online / target:\n"
        )
        print("| one call per update | " + " | ".join(COLUMNS.values()) + " | cost | µs |")
        print("|---" * (len(COLUMNS) + 3) + "|")
        for name, pair in by_estimator.items():
            online, target = pair["online"], pair["target"]
            cells = [f"{shown(online[c])} / {shown(target[c])}" for c in COLUMNS]
            cells.append(f"{float(online['cost']):.1f} / {float(target['cost']):.1f}")
            cells += [f"{float(x['microseconds']):.0f}" for x in (online,)]
            title = f"**{name}**" if name.endswith("(ours)") else name
            print(f"| {title} | " + " | ".join(cells) + " |")


if __name__ == "__main__":
    main()
