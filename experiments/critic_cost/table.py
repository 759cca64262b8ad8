"""Prints the table from ``results.csv``.

python experiments/critic_cost/table.py [--results quick.csv]
"""

import argparse
import csv
from collections import defaultdict
from pathlib import Path

Row = dict[str, str]


def shown(row: Row | None) -> str:
    if row is None:
        return "–"
    if row["update"] == "sb3's own":
        return "SB3's own"
    middle, low, high = (f"{float(row[x]):.2f}" for x in ("ratio", "ratio_low", "ratio_high"))
    return f"{middle} ({low} to {high})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--results", type=Path, default=Path(__file__).with_name("results.csv"))
    with parser.parse_args().results.open() as file:
        rows = list(csv.DictReader(file))
    tables: dict[tuple[str, ...], dict[tuple[str, str], dict[str, Row]]] = defaultdict(
        lambda: defaultdict(dict)
    )
    for row in rows:
        setting = tuple(row[x] for x in ("algorithm", "env", "threads", "rounds"))
        update = "sb3" if row["update"] == "sb3" else "snrl"
        tables[setting][row["critic"], row["n_critics"]][update] = row
    for (algorithm, env, threads, rounds), critics in tables.items():
        plain = critics["plain", "2"]["sb3"]
        print(
            f"{algorithm.upper()}, {env}, threads: {threads}, {rounds} rounds; a gradient step "
            f"with a plain critic and SB3's update takes {float(plain['milliseconds']):.1f} ms:\n"
        )
        names = [*dict.fromkeys(critic for critic in critics if not critic[0].startswith("sn+"))]
        print("| critic | SB3's update | with `sn` | `snrl`'s update | with `sn` |")
        print("|---|---|---|---|---|")
        for name, n_critics in names:
            both = critics.get((f"sn+{name}", n_critics), {})
            cells = [
                shown(one.get(update))
                for update in ("sb3", "snrl")
                for one in (critics[name, n_critics], both)
            ]
            label = name if n_critics == "2" else f"{name}, {n_critics} critics"
            print(f"| {label} | {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
