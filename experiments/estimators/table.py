"""Prints the README's table from ``results.csv``.

python experiments/estimators/table.py
"""

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
    with Path(__file__).with_name("results.csv").open() as file:
        rows = list(csv.DictReader(file))
    by_estimator: dict[str, list[dict[str, str]]] = defaultdict(list)
    for row in rows:
        by_estimator[row["estimator"]].append(row)
    runs = [
        (r["algorithm"], float(r["learning_rate"]), r["network"])
        for r in next(iter(by_estimator.values()))
    ]
    for algorithm, rate in dict.fromkeys(run[:2] for run in runs):
        print(f"\n{algorithm.upper()}, learning rate {rate:g}, online / target:\n")
        print("| one call per update | " + " | ".join(COLUMNS.values()) + " | cost |")
        print("|---" * (len(COLUMNS) + 2) + "|")
        for name, group in by_estimator.items():
            pair = {row["network"]: row for row in group if row["algorithm"] == algorithm}
            cells = [f"{shown(pair['online'][c])} / {shown(pair['target'][c])}" for c in COLUMNS]
            title = f"**{name}**" if "ours" in name else name
            print(f"| {title} | " + " | ".join(cells) + f" | {float(pair['online']['cost']):.1f} |")


if __name__ == "__main__":
    main()
