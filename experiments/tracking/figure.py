"""Draws the error of sigma at every update, from the files in ``results``: ``errors.svg``.

python experiments/tracking/figure.py
"""

from pathlib import Path

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np

ASKED = 1e-2
PROVEN = 1e-6


def main() -> None:
    mpl.use("svg")
    mpl.rcParams["svg.hashsalt"] = "snrl"  # the same picture is the same file
    here = Path(__file__).parent
    _, axes = plt.subplots(1, 2, figsize=(9, 3), sharey=True, layout="constrained")
    for path in sorted((here / "results").glob("*.npz")):
        algorithm, env, rate, layers, _ = path.stem.split("_")
        with np.load(path) as errors:
            for axis, network in zip(axes, ("online", "target"), strict=True):
                # The largest of every 50 updates: a peak is not to be lost in a thick line.
                blocks = errors[network].reshape(-1, 50).max(axis=1)
                axis.semilogy(
                    np.arange(1, len(blocks) + 1) * 50,
                    blocks,
                    color={"sac": "tab:blue", "td3": "tab:orange"}[algorithm],
                    linestyle={"0.0003": "-", "0.001": ":"}[rate],
                    linewidth=0.8,
                    alpha=0.8,
                    label=f"{algorithm.upper()}, {rate}" if (env, layers) == FIRST else None,
                )
    for axis, network in zip(axes, ("online", "target"), strict=True):
        axis.axhline(ASKED, color="gray", linewidth=0.8)
        axis.axhline(PROVEN, color="gray", linewidth=0.8, linestyle="--")
        axis.set(title=network, xlabel="update")
    axes[0].set_ylabel("relative error of sigma\n(largest in 50 updates)")
    axes[0].legend(fontsize="small", ncols=2)
    plt.savefig(here / "errors.svg", metadata={"Date": None})


FIRST = ("Pendulum-v1", "-2")

if __name__ == "__main__":
    main()
