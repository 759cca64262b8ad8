"""The panels that matter, defined once.

The HTML page, the static figures, the W&B workspace and the TensorBoard layout are drawn from
:data:`PANELS`; the glossary of the page explains each key from the registry of :mod:`snrl.values`.
"""

from typing import NamedTuple

from snrl.values.keys import KEYS, Key, find

RETURN = "eval/mean_reward"
BIAS = "values/bias_mean"
STEP = "time/total_timesteps"


class Panel(NamedTuple):
    """One plot: a few measures of one kind against environment steps.

    Attributes:
        name: Short, for file names.
        section: Heading under which it stands.
        title: What it shows.
        measures: Logger keys, the most telling one first; that one is drawn where there is room
            for one.
        label: Of the y axis, with the unit.
        text: One sentence: how to read it.
        log: Whether the y axis is logarithmic.
    """

    name: str
    section: str
    title: str
    measures: tuple[str, ...]
    label: str
    text: str
    log: bool = False

    @property
    def best(self) -> float | None:
        """The best number of the first measure, drawn as a line; None where there is none."""
        return best(self.measures[0])


_RETURN, _BIAS, _NORM, _STEADY, _NETWORK = (
    "Return",
    "Bias of the values",
    "Spectral norm",
    "Steadiness",
    "Network",
)

PANELS: tuple[Panel, ...] = (
    Panel(
        "return",
        _RETURN,
        "Return of the deterministic policy",
        (RETURN, "eval/success_rate", "eval/mean_ep_length"),
        "return",
        "Mean over the evaluation's episodes; higher is better.",
    ),
    Panel(
        "bias",
        _BIAS,
        "Bias: value minus the return that followed",
        (BIAS, "values/bias_mean_normalised", "values/bias_error"),
        "mean of Q − G",
        "Above 0 the critic promises more than follows; it should stay near 0 and not grow.",
    ),
    Panel(
        "overestimation",
        _BIAS,
        "Share of states that are overestimated",
        ("values/overestimation_rate",),
        "share of states",
        "0.5 is even-handed; at 0 or 1 the bias dwarfs the spread.",
    ),
    Panel(
        "spread",
        _BIAS,
        "Spread of the error over states",
        ("values/bias_std", "values/absolute_discrepancy", "values/rank_correlation"),
        "std of Q − G",
        "The error beyond the bias; it holds the chance of task and policy too.",
    ),
    Panel(
        "td_error",
        _BIAS,
        "TD error on states that training never sees",
        ("values/td_error_heldout", "values/td_error_train"),
        "return²",
        "Held-out error far above the one in training is a critic that overfits its buffer.",
        log=True,
    ),
    Panel(
        "q",
        _BIAS,
        "Values",
        ("values/q_mean", "values/q_max", "values/q_target_mean", "values/return_mean"),
        "mean of Q",
        "Should approach the discounted return; a line that runs away is divergence.",
    ),
    Panel(
        "sigma",
        _NORM,
        "Largest singular value of the critic's layers",
        ("sn/sigma_max",),
        "σ max, online and target",
        "With spectral normalisation it is the coefficient; without, it grows as it likes.",
        log=True,
    ),
    Panel(
        "sigma_error",
        _NORM,
        "Certified error of the tracked norm",
        ("sn/sigma_error",),
        "relative error",
        "How far a true norm may lie above the one divided by; healthy below 1e-3.",
        log=True,
    ),
    Panel(
        "lipschitz_bound",
        _NORM,
        "Certified Lipschitz bound of the critic",
        ("sn/lipschitz_bound", "sn/lipschitz_bound_state", "sn/lipschitz_bound_action"),
        "value per unit",
        "No value can change faster with its input than this.",
        log=True,
    ),
    Panel(
        "lipschitz",
        _NORM,
        "Steepest slope that was seen",
        ("values/lipschitz_state", "values/lipschitz_action"),
        "max ‖∂Q/∂s‖",
        "Largest gradient of the value in the state, over visited states.",
        log=True,
    ),
    Panel(
        "drawdown",
        _STEADY,
        "Fall from the best return",
        ("values/return_drawdown", "values/return_fallen_share"),
        "return",
        "How far the return has fallen below the best evaluation before; 0 is a run that never "
        "gets worse.",
    ),
    Panel(
        "churn",
        _STEADY,
        "Churn of one update",
        ("values/churn", "values/churn_k", "values/disagreement"),
        "mean abs change",
        "How much one update moves the values of states it was not made for.",
        log=True,
    ),
    Panel(
        "gradient",
        _STEADY,
        "Gradient of the critic's loss",
        ("values/grad_norm", "values/effective_lr", "values/target_drift"),
        "Euclidean norm",
        "Spikes are updates that undo others.",
        log=True,
    ),
    Panel(
        "rank",
        _NETWORK,
        "Rank of the last hidden layer",
        ("values/srank", "values/numerical_rank", "values/stable_rank"),
        "srank",
        "A falling rank is a critic that tells fewer and fewer states apart.",
    ),
    Panel(
        "dormant",
        _NETWORK,
        "Dormant units",
        ("values/dormant_0.025", "values/dormant_0.1"),
        "share of hidden units",
        "Units that hardly answer any state; healthy below 0.3 and not rising.",
    ),
    Panel(
        "weights",
        _NETWORK,
        "Size of the weights",
        ("values/weight_norm", "values/curvature", "values/plasticity"),
        "Euclidean norm",
        "Of the weights that the critic applies; level or slowly rising.",
        log=True,
    ),
)

# Keys outside values/, explained as the registry explains those inside; names are whole.
OTHER_KEYS: tuple[Key, ...] = (
    Key(
        (RETURN, "eval/mean_ep_length"),
        "mean return and length of the evaluation's episodes, deterministic policy",
        "return; steps",
        "as SB3's `EvalCallback`",
        "rising, and staying there",
        "see the values",
        "run",
    ),
    Key(
        ("eval/success_rate",),
        "share of the evaluation's episodes that end in success, where the task says so",
        "1",
        "as SB3's `EvalCallback`",
        "towards 1",
        "see the values",
        "run",
    ),
    Key(
        ("sn/sigma_max",),
        "largest singular value that the critic's layers apply, the larger of online and target, "
        "by SVD; without `--sn` that of the last hidden layer",
        "1",
        "Miyato et al. 2018",
        "`sn_coef` where the norm is held",
        "see `sn/sigma_error`",
        "run",
    ),
    Key(
        ("sn/sigma_error",),
        "how far, relative to it, a true norm may lie above the tracked one, at most: the largest "
        "of all layers, certified",
        "1",
        "ours; bound after Delattre et al. 2023",
        "below 1e-3",
        "larger `block_size` or `n_power_iterations`",
        "run",
    ),
    Key(
        ("sn/lipschitz_bound", "sn/lipschitz_bound_state", "sn/lipschitz_bound_action"),
        "certified upper bound on the Lipschitz constant of the online critic, in both inputs, in "
        "the state and in the action",
        "value per unit of observation or scaled action",
        "Gouk et al. 2021",
        "level",
        "smaller `sn_coef`, more normalised layers",
        "run",
    ),
)


def best(measure: str) -> float | None:
    """The number of a measure that is best, as the registry has it; None where there is none."""
    key = find(measure) if measure.startswith("values/") else None
    return key.best if key else None


def sections() -> dict[str, list[Panel]]:
    """The panels by section, in order."""
    grouped: dict[str, list[Panel]] = {}
    for panel in PANELS:
        grouped.setdefault(panel.section, []).append(panel)
    return grouped


def explained() -> list[tuple[tuple[str, ...], Key]]:
    """Every key with its whole logger names."""
    own = [(tuple(f"values/{name}" for name in key.names), key) for key in KEYS]
    return [(key.names, key) for key in OTHER_KEYS] + own
