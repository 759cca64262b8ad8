"""Prints the table from ``results.csv``.

python experiments/conv_norms/table.py
"""

import csv
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path

Row = dict[str, str]


def span(values: Iterable[float], digits: int = 2) -> str:
    ordered = sorted(values)
    low, high = f"{ordered[0]:.{digits}f}", f"{ordered[-1]:.{digits}f}"
    return low if low == high else f"{low} to {high}"


def main() -> None:
    with Path(__file__).with_name("results.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    kinds: dict[tuple[str, ...], list[Row]] = defaultdict(list)
    products: dict[tuple[str, str], dict[str, float]] = defaultdict(lambda: defaultdict(lambda: 1))
    for row in rows:
        columns = ("network", "in_channels", "out_channels", "kernel", "stride", "size")
        kinds[tuple(row[column] for column in columns)].append(row)
        products[row["network"], row["init"]][row["seed"]] *= float(row["norm_normalized"])
    print("| convolution | input | norm, PyTorch's initialisation | orthogonal | at most ", end="")
    print("| certified bound / norm |")
    print("|---|---|---|---|---|---|")
    for (network, before, after, kernel, stride, size), found in kinds.items():
        by_init = {
            init: span(float(row["norm_normalized"]) for row in found if row["init"] == init)
            for init in ("pytorch", "orthogonal")
        }
        excess = max(float(row["bound"]) / float(row["norm"]) for row in found)
        print(
            f"| {network}, {before} → {after}, {kernel}×{kernel}, stride {stride} "
            f"| {size}×{size} | {by_init['pytorch']} | {by_init['orthogonal']} "
            f"| {float(found[0]['factor']):g} | {excess:.3f} |"
        )
    print()
    for init in ("pytorch", "orthogonal"):
        product = span(products["NatureCNN", init].values(), 1)
        print(f"NatureCNN, {init}: product over its convolutions {product}")
    off = max(
        abs(float(row["norm"]) / float(row["reshaped"]) / float(row["norm_normalized"]) - 1)
        for row in rows
    )
    print(f"before and after normalising, the ratios differ by at most {off:.0e}")


if __name__ == "__main__":
    main()
