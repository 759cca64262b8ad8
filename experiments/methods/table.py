"""Prints the tables from ``results.csv``.

python experiments/methods/table.py [--results quick.csv]
"""

import argparse
import csv
from collections import defaultdict
from pathlib import Path

ROUNDING = 1e-7
BACK = ", there and back"  # of the same error as without
Row = dict[str, str]


def cost(row: Row) -> str:
    microseconds, ratio = float(row["microseconds"]), float(row["ratio"])
    shown = f"{microseconds:.0f} µs" if microseconds < 1e4 else f"{microseconds / 1e3:.0f} ms"
    return f"{shown}, {ratio:.2f}" if ratio < 10 else f"{shown}, {ratio:.0f}"


def error(row: Row) -> str:
    """Of online and target; float32 tells nothing below its rounding."""
    both = [float(row[column]) for column in ("error_online", "error_target") if row[column]]
    return " / ".join(f"{x:.0e}" if x > ROUNDING else "<1e-7" for x in both)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--results", type=Path, default=Path(__file__).with_name("results.csv"))
    with parser.parse_args().results.open() as file:
        rows = list(csv.DictReader(file))
    runs: dict[tuple[str, str, str, str], list[Row]] = defaultdict(list)
    for row in rows:
        runs[row["device"], row["threads"], row["steps"], row["seed"]].append(row)
    for (device, threads, steps, seed), found in runs.items():
        methods = list(dict.fromkeys(row["method"] for row in found))
        settings: dict[tuple[int, ...], dict[str, Row]] = defaultdict(dict)
        for row in found:
            setting = tuple(int(row[column]) for column in ("width", "depth", "critics"))
            settings[setting][row["method"]] = row
        titles = [f"**{x}**" if x == "snrl" else x for x in methods]
        of = f"{device}, threads: {threads}, {steps} steps, seed {seed}"
        for title, show in (
            ("cost per update, as a multiple of torch's", cost),
            ("error, online / target", error),
        ):
            shown = [
                (method, heading)
                for method, heading in zip(methods, titles, strict=True)
                if show is cost
                or (
                    not method.endswith(BACK)
                    and any(show(x[method]) for x in settings.values() if method in x)
                )
            ]
            print(f"\n{title} ({of}):\n")
            print("| width, depth, critics | " + " | ".join(x for _, x in shown) + " |")
            print("|---" * (len(shown) + 1) + "|")
            for setting in sorted(settings):
                cells = [
                    show(settings[setting][x]) if x in settings[setting] else "" for x, _ in shown
                ]
                print(f"| {', '.join(map(str, setting))} | " + " | ".join(cells) + " |")


if __name__ == "__main__":
    main()
