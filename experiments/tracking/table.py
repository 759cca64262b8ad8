"""Prints the table from the files in ``results``.

python experiments/tracking/table.py
"""

from pathlib import Path

import numpy as np

PROVEN = 1e-6
WARMUP = 1000


def shown(error: float) -> str:
    return "≤ 1e-6" if error <= PROVEN else f"{error:.1e}"


def main() -> None:
    print("| algorithm, task | learning rate | `sn_layers` | ", end="")
    for network in ("online", "target"):
        print(f"{network}: largest of all | median, later | 99.9%, later | ", end="")
    print("\n" + "|---" * 9 + "|")
    for path in sorted((Path(__file__).parent / "results").glob("*.npz")):
        algorithm, env, rate, layers, _ = path.stem.split("_")
        selection = "`(-2,)`" if layers == "-2" else f'`"{layers}"`'
        print(f"| {algorithm.upper()}, {env} | {float(rate):g} | {selection} |", end="")
        with np.load(path) as errors:
            for network in ("online", "target"):
                later = errors[network][WARMUP:]
                figures = errors[network].max(), np.median(later), np.quantile(later, 0.999)
                print("".join(f" {shown(figure)} |" for figure in figures), end="")
        print()


if __name__ == "__main__":
    main()
