"""One page that shows how good the values of a model are, to someone who reads nothing else."""

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from snrl.values.measurer import Measurement, probe_of
from snrl.values.saved_run import SavedRun

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_RIGHT, _DOT, _GREY = "#b2182b", "#2166ac", "#666666"


def draw(run: SavedRun, measured: Measurement, path: Path) -> None:
    """Draw the page.

    Args:
        run: The run.
        measured: What was measured of its model, returns included.
        path: Where to; the suffix says which format.

    Raises:
        ModuleNotFoundError: If matplotlib is not installed.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11.7, 8.3), dpi=120)
    axes = figure.subplots(2, 2)
    figure.subplots_adjust(0.075, 0.08, 0.975, 0.715, wspace=0.22, hspace=0.72)
    title = "Does the critic know what the policy will get?"
    figure.text(0.075, 0.95, title, size=17, weight="bold")
    figure.text(0.075, 0.92, run.title, size=11, color=_GREY)
    figure.text(0.075, 0.872, _gloss(run), size=9, color=_GREY)
    figure.text(0.075, 0.81, verdict(measured), size=12)
    _promises(axes[0, 0], measured)
    _errors(axes[0, 1], measured)
    _history(axes[1, 0], run)
    _spectra(axes[1, 1], run)
    figure.savefig(path)


def verdict(measured: Measurement) -> str:
    """Say in a sentence or two how the values and the returns compare."""
    values = measured.values
    promised, got = values["q_mean"], values["return_mean"]
    error, bias = values.get("bias_error", float("nan")), values["bias_mean"]
    said = (
        f"On average the critic promises {_number(promised)}, "
        f"and the policy then gets {_number(got)}"
    )
    if abs(bias) <= 2 * error:
        said += ": no bias that could be told from chance."
    else:
        way = "too much" if bias > 0 else "too little"
        said += f": {_number(abs(bias))} {way} ({abs(bias) / max(abs(got), 10):.0%})."
    rank = values.get("rank_correlation")
    if rank is not None:
        how = "well" if rank > 0.8 else "roughly" if rank > 0.4 else "hardly"
        said += f"\nIt tells good situations from bad ones {how} (rank correlation {rank:.2f})."
    return said


def _gloss(run: SavedRun) -> str:
    bonus = ", plus a bonus for acting at random" if probe_of(run.model).has_entropy else ""
    return (
        "The policy acts; the critic, from which it learns, predicts how much reward will still "
        f"follow\n(soon counts more than late{bonus}). Here the predictions meet what followed."
    )


def _promises(axes: "Axes", measured: Measurement) -> None:
    returns, q = measured.returns, measured.q
    assert returns is not None
    _caption(
        axes,
        "Promised and received",
        "Each dot is one moment of play. On the line the critic is right;\n"
        "above it, it promises more than follows.",
    )
    low, high = (float(f(np.concatenate((returns, q)))) for f in (np.min, np.max))
    pad = 0.05 * (high - low) + 1e-9
    line = (low - pad, high + pad)
    axes.plot(line, line, color=_RIGHT, lw=1.5, label="exactly right", zorder=3)
    axes.scatter(returns, q, s=7, alpha=0.4, color=_DOT, lw=0)
    axes.set(xlim=line, ylim=line)
    axes.set_xlabel("what the policy then received (discounted return)")
    axes.set_ylabel("what the critic promised (Q)")
    axes.legend(frameon=False, loc="lower right")


def _errors(axes: "Axes", measured: Measurement) -> None:
    assert measured.returns is not None
    errors = measured.q - measured.returns
    _caption(
        axes,
        "How wrong, how often?",
        "Promise minus what was received, over all moments. A narrow hill\n"
        "at 0 is a critic that knows; to the right of 0 it is too hopeful.",
    )
    axes.hist(errors, bins=40, color=_DOT, alpha=0.7)
    axes.axvline(0.0, color=_RIGHT, lw=1.5, label="exactly right")
    axes.axvline(errors.mean(), color="black", lw=1.5, ls="--", label="average error")
    axes.set_xlabel("error of the promise (Q − return)")
    axes.set_ylabel("number of moments")
    axes.legend(frameon=False)


def _history(axes: "Axes", run: SavedRun) -> None:
    _caption(
        axes,
        "The average error while training",
        "Near 0 and level is healthy; a line that runs away is not.\n"
        "The band is where the true average error lies, in 95 of 100 cases.",
    )
    steps, bias = run.logged("bias_mean")
    axes.axhline(0.0, color=_RIGHT, lw=1.5, label="exactly right")
    if len(steps):
        axes.plot(steps, bias, color=_DOT, marker="o", ms=4, label="average error")
        known, error = run.logged("bias_error")
        middle = bias[np.isin(steps, known)]
        axes.fill_between(
            known, middle - 1.96 * error, middle + 1.96 * error, color=_DOT, alpha=0.2, lw=0
        )
    else:
        axes.text(0.5, 0.6, "not measured while training", ha="center", transform=axes.transAxes)
    axes.set_xlabel("environment steps of training")
    axes.set_ylabel("average of Q − return")
    axes.xaxis.set_major_formatter(lambda x, _: f"{x:,.0f}")
    axes.legend(frameon=False)


def _spectra(axes: "Axes", run: SavedRun) -> None:
    held = run.config.get("sn_coef") if run.config.get("sn") else None
    _caption(
        axes,
        "How strongly the critic's layers amplify",
        "Singular values of each layer, largest first. Large ones on the left\n"
        "make the critic jumpy: small changes of the situation, large ones of Q.",
    )
    probe = probe_of(run.model)
    weights = probe.effective_weights(probe.critic)
    colours: dict[str, str] = {}
    for name, weight in weights.items():
        _, _, place = name.partition(".")
        sigma = torch.linalg.svdvals(weight.flatten(1).double()).numpy()
        label = None
        if place not in colours:
            colours[place] = f"C{len(colours)}"
            label = f"layer {len(colours)}, {weight.shape[1]} → {weight.shape[0]}"
        ranks = np.arange(1, len(sigma) + 1)
        dot = "o" if len(sigma) == 1 else None
        axes.plot(ranks, sigma, colours[place], lw=1.4, ms=4, label=label, marker=dot)
    if isinstance(held, (int, float)):
        axes.axhline(held, color=_RIGHT, lw=1.2, ls="--", label=f"held to {held:g} (normalised)")
    axes.set(xscale="log", yscale="log")
    axes.set_ylim(bottom=max(axes.get_ylim()[0], 1e-4))
    axes.set_xlabel("rank of the direction, strongest first")
    axes.set_ylabel("factor by which it is amplified")
    axes.legend(frameon=False, loc="lower left")


def _caption(axes: "Axes", title: str, text: str) -> None:
    axes.text(0.0, 1.2, title, transform=axes.transAxes, weight="bold", size=12)
    axes.text(0.0, 1.03, text, transform=axes.transAxes, size=9, color=_GREY)
    axes.spines[["top", "right"]].set_visible(False)


def _number(value: float) -> str:
    return f"{value:,.1f}" if abs(value) >= 10 else f"{value:.3g}"
