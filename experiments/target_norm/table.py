"""Prints the table from ``results.csv``.

python experiments/target_norm/table.py
"""

import csv
from collections import defaultdict
from pathlib import Path

METHODS = {"torch": "torch `spectral_norm`", "snrl": "**snrl**"}


def main() -> None:
    with Path(__file__).with_name("results.csv").open() as file:
        rows = list(csv.DictReader(file))
    runs: dict[tuple[str, ...], dict[str, list[dict[str, str]]]] = defaultdict(dict)
    for row in rows:
        key = (row["method"], row["layers"], row["algorithm"], row["learning_rate"])
        runs[key].setdefault(row["network"], []).append(row)
    print(
        "| | `sn_layers` | algorithm, learning rate | online, largest | target, largest | ", end=""
    )
    print("largest error from the first update on | after the 1,000th |")
    print("|---|---|---|---|---|---|---|")
    order = sorted(runs, key=lambda key: (key[0] != "torch", key[1:3], float(key[3])))
    for method, layers, algorithm, rate in order:
        networks = runs[method, layers, algorithm, rate]
        both = [row for rows in networks.values() for row in rows]

        def largest(column: str, rows: list[dict[str, str]]) -> float:
            return max(float(row[column]) for row in rows)

        digits = 2 if method == "torch" else 4
        selection = "`(-2,)`" if layers == "-2" else f'`"{layers}"`'
        print(
            f"| {METHODS[method]} | {selection} | {algorithm.upper()}, {float(rate):g} "
            f"| {largest('sigma_max', networks['online']):.{digits}f} "
            f"| {largest('sigma_max', networks['target']):.{digits}f} "
            f"| {largest('error_max', both):.1e} | {largest('error_max_after_1000', both):.1e} |"
        )


if __name__ == "__main__":
    main()
