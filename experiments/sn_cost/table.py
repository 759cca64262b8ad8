"""Prints the table from ``results.csv``.

python experiments/sn_cost/table.py [--results quick.csv]
"""

import argparse
import csv
from collections import defaultdict
from pathlib import Path

Row = dict[str, str]


def added(row: Row) -> str:
    percent = [100 * (float(row[x]) - 1) for x in ("ratio", "ratio_low", "ratio_high")]
    middle, low, high = (f"{x:+.1f}" for x in percent)
    return f"{middle}% ({low} to {high})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--results", type=Path, default=Path(__file__).with_name("results.csv"))
    with parser.parse_args().results.open() as file:
        rows = list(csv.DictReader(file))
    settings: dict[tuple[str, ...], dict[str, Row]] = defaultdict(dict)
    for row in rows:
        columns = ("algorithm", "network", "env", "threads", "seconds", "seed")
        settings[tuple(row[column] for column in columns)][row["method"]] = row
    print("| algorithm, hidden layers | task | threads | plain, one gradient step | ", end="")
    print("plain again | torch `spectral_norm` | **snrl** | rounds |")
    print("|---|---|---|---|---|---|---|---|")
    for (algorithm, network, env, threads, *_), methods in sorted(settings.items()):
        plain = methods["plain"]
        cells = [added(methods[method]) for method in ("plain again", "torch", "snrl")]
        print(
            f"| {algorithm.upper()}, {network} | {env} | {threads} "
            f"| {float(plain['milliseconds']):.1f} ms | {' | '.join(cells)} | {plain['rounds']} |"
        )


if __name__ == "__main__":
    main()
