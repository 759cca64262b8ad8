"""Every key under ``values/``: what it is, in which unit, whose idea, what is healthy.

The README's table is printed from here (``python -m snrl.values.keys``), and a test compares it.
"""

from typing import NamedTuple


class Key(NamedTuple):
    """One key, or several that are explained together.

    Attributes:
        names: Without ``values/``; a name that ends in ``/…`` exists for each layer.
        formula: What is computed.
        unit: Of the number.
        source: Whose definition it is, and where ours departs from it.
        healthy: What it is when all is well.
        remedy: What to try when it is not.
        sets: The sets that hold it: ``light`` is part of ``full``; ``run`` is logged by
            ``python -m snrl.run`` besides.
        best: The number that is best, the nearer the better; None where no number is better than
            another by itself, as for most that depend on the size of the returns.
    """

    names: tuple[str, ...]
    formula: str
    unit: str
    source: str
    healthy: str
    remedy: str
    sets: str = "light"
    best: float | None = None


_RETURN = "return"
_OVER = "more critics, or the minimum of more; smaller `sn_coef`; TQC"
_UNDER = "fewer critics in the minimum; larger `sn_coef`; longer training"

KEYS: tuple[Key, ...] = (
    Key(
        ("bias_mean", "bias_std"),
        "mean and standard deviation over states of Q − G; Q the mean of the critics, G the return "
        "that followed: `r_t + Σ γ^k (r_{t+k} − α log π_{t+k})`",
        _RETURN,
        "Chen et al. 2021 (REDQ); α is the current one, where REDQ's code has 0.2",
        "near 0 beside `return_mean`, and not growing; the spread holds the chance of task and "
        "policy too",
        f"above 0: {_OVER}; below: {_UNDER}",
        best=0.0,
    ),
    Key(
        ("bias_mean_normalised", "bias_std_normalised"),
        "the same over max(abs mean G, 10)",
        "1",
        "Chen et al. 2021; they scale state by state",
        "within ±0.1; the standard deviation steady",
        "as above",
        best=0.0,
    ),
    Key(
        ("bias_error",),
        "standard error of `bias_mean`, each episode one draw",
        _RETURN,
        "Liang & Zeger 1986",
        "well below abs `bias_mean`, or the bias is not told from 0",
        "more environments: pass a `VecEnv`",
    ),
    Key(
        ("return_mean", "tail_weight"),
        "mean of G; mean weight in G of the critic's own value, less `bias_mean`, which completes "
        "what was cut",
        f"{_RETURN}; 1",
        "ours",
        "`tail_weight` below 0.2, else the bias leans on the critic that it judges",
        "`full`, whose tails are longer; smaller γ",
    ),
    Key(
        ("overestimation_rate",),
        "share of states with Q > G",
        "1",
        "overestimation: van Hasselt 2010; its rate: ours",
        "near 0.5; 0 or 1 where the bias dwarfs the spread",
        "as for `bias_mean`",
        best=0.5,
    ),
    Key(
        ("absolute_discrepancy",),
        "mean of abs(Q − G)",
        _RETURN,
        "plain",
        "falling beside `return_mean`",
        "as for `bias_mean`; a larger critic",
        best=0.0,
    ),
    Key(
        ("rank_correlation",),
        "Spearman's rank correlation of Q and G",
        "1",
        "Spearman 1904",
        "towards 1: the critic orders states rightly, whatever its bias",
        "larger `sn_coef` or fewer normalised layers; a larger critic",
        best=1.0,
    ),
    Key(
        ("td_error_heldout", "td_error_train"),
        "mean square of target − Q, on the states that were visited for the measures, which "
        "training never sees; and on a batch of the replay buffer",
        "return²",
        "Li et al. 2023, who hold out transitions of the behaviour policy; ours are on-policy",
        "held-out within a few times of train",
        "held-out far above: fewer gradient steps per step, SN, or LayerNorm",
    ),
    Key(
        ("q_mean", "q_std", "q_min", "q_max"),
        "of the online critics, over critics and visited states",
        _RETURN,
        "plain",
        "`q_mean` near `return_mean`, `q_max` below `max abs r / (1 − γ)`",
        "see divergence",
    ),
    Key(
        ("q_target_mean", "q_target_std", "q_target_min", "q_target_max"),
        "of the target critics",
        _RETURN,
        "plain",
        "a little behind the online ones",
        "larger `tau` if far behind",
    ),
    Key(
        ("disagreement",),
        "mean over states of the standard deviation over critics",
        _RETURN,
        "plain",
        "small beside `bias_std`; falling",
        "growing: the critics extrapolate; SN, smaller learning rate",
        best=0.0,
    ),
    Key(
        ("target_drift",),
        "‖θ − θ̄‖ / ‖θ̄‖, online and target weights",
        "1",
        "ours",
        "small and falling",
        "smaller learning rate, larger `tau`",
        best=0.0,
    ),
    Key(
        ("churn", "churn_k", "churn_updates"),
        "mean abs(Q_θ' − Q_θ) on 256 states that training never sees, around one update of the "
        "run, and around `churn_updates` of them",
        _RETURN,
        "Tang & Berseth 2024 (CHAIN)",
        "small beside `q_std`; `churn_k` well below `churn_updates` times `churn`",
        "smaller learning rate, larger batch, SN",
    ),
    Key(
        ("srank", "numerical_rank", "stable_rank"),
        "of the last hidden layer on at least as many states as units, mean over critics: smallest "
        "k with Σ_{i≤k} σ_i ≥ 0.99 Σ σ_i; number of σ_i above rounding; Σ σ_i² / σ_1²",
        "1",
        "Kumar et al. 2021 (srank, δ = 0.01)",
        "steady; srank not falling towards the number of actions",
        "fewer gradient steps per step, weight decay, LayerNorm",
    ),
    Key(
        ("dormant_0.025", "dormant_0.1"),
        "share of hidden units with mean abs activation at most τ times the layer's",
        "1",
        "Sokar et al. 2023",
        "below 0.3 and not rising",
        "smaller learning rate, LayerNorm, resets of dormant units",
        best=0.0,
    ),
    Key(
        ("weight_norm", "weight_norm/…"),
        "Euclidean norm of the weights that the critic applies (effective where normalised), "
        "whole and per layer",
        "1",
        "plain",
        "level or slowly rising",
        "weight decay, SN",
    ),
    Key(
        ("grad_norm", "grad_norm/…"),
        "Euclidean norm of the critic loss's gradient on a batch of 256 from the replay buffer, "
        "whole and per layer's weight",
        "return² per weight",
        "plain",
        "no spikes",
        "smaller learning rate, gradient clipping, SN",
    ),
    Key(
        ("effective_lr", "effective_lr/…", "effective_lr_invariant"),
        "‖g‖ / ‖θ‖ of stored weights, mean and per layer's weight; η / ‖θ‖²",
        "return² per weight²; 1",
        "SimbaV2 (Lee et al. 2025); XQC (Palenicek et al. 2025, for scale-invariant networks)",
        "steady, the layers alike",
        "falling by growing weights: weight decay, or weights held by `project`",
    ),
    Key(
        ("lipschitz_state", "lipschitz_state_mean", "lipschitz_action", "lipschitz_action_mean"),
        "largest and mean norm of ∂Q/∂s and ∂Q/∂a on visited states, over all critics",
        "return per unit of observation or scaled action",
        "plain; beside `sn/lipschitz_bound_…`",
        "level; the largest within some tens of the mean",
        "SN, smaller `sn_coef`",
    ),
    Key(
        ("lipschitz_state_tightness", "lipschitz_action_tightness"),
        "largest norm that was seen over the certified bound",
        "1",
        "ours; bound after Gouk et al. 2021",
        "anything in (0, 1]; small means that the bound says little",
        "none needed",
        "full",
    ),
    Key(
        ("geometry_mixed", "geometry_action"),
        "largest singular value of ∂²Q/∂s∂a, largest abs eigenvalue of ∂²Q/∂a², over visited "
        "states; left out for ReLU, where both are 0",
        "return per unit²",
        "Lee et al. 2026 (PAVE)",
        "level",
        "SN, smoother activations",
        "full",
    ),
    Key(
        ("curvature", "curvature_min", "condition_number"),
        "of the critic loss's Hessian on 128 transitions, by 20 steps of Lanczos: largest abs "
        "eigenvalue (from below), smallest (from above), and their ratio (from below)",
        "return² per weight²; 1",
        "XQC (Palenicek et al. 2025)",
        "`curvature` times the learning rate of plain gradient descent below 2; ratio not rising",
        "LayerNorm or BatchNorm, SN",
        "full",
    ),
    Key(
        ("plasticity",),
        "loss of a copy of the critic after 80 steps of Adam towards random targets, over their "
        "variance",
        "1",
        "Lyle et al. 2023; scaled, and a smaller budget",
        "not rising along training",
        "LayerNorm, weight decay, resets",
        "full",
        best=0.0,
    ),
    Key(
        ("return_drawdown", "return_fallen_share"),
        "largest fall of an evaluation's mean return below the best before it; share of "
        "evaluations below `best − 0.2 abs(best)`",
        f"{_RETURN}; 1",
        "plain",
        "0 to 0.1 for the share",
        "smaller learning rate; read with `bias_mean` and `churn`",
        "run",
        best=0.0,
    ),
    Key(
        ("diverged",),
        "1 once a loss, value, reward or weight was not finite, or abs Q passed twice "
        "`(max abs r + γ max abs α H) / (1 − γ)`, or the loss what follows from that; logged at "
        "the step at which it happens",
        "1",
        "after van Hasselt et al. 2018 (soft divergence)",
        "0",
        "SN or LayerNorm, smaller learning rate, smaller γ; `--stop-on-divergence` ends the run",
        best=0.0,
    ),
    Key(
        ("time_share",),
        "time spent on all of this, over the time of training so far",
        "1",
        "plain",
        "`light` below 0.02, `full` below 0.1",
        "`--values light`, larger `--eval-freq`",
    ),
)


def find(name: str) -> Key | None:
    """Return the key that explains a name, with or without ``values/``; None if none does."""
    name = name.removeprefix("values/")
    layered = f"{name.partition('/')[0]}/…"
    return next((key for key in KEYS if {name, layered} & set(key.names)), None)


def markdown_table() -> str:
    """The README's table."""
    rows = ["| key, `values/…` | formula | unit | source | healthy | if not |", "|---" * 6 + "|"]
    for key in KEYS:
        names = ", ".join(f"`{name}`" for name in key.names)
        note = {"light": "", "full": " (`full`)", "run": " (in runs)"}[key.sets]
        cells = (names + note, key.formula, key.unit, key.source, key.healthy, key.remedy)
        rows.append(f"| {' | '.join(cells)} |")
    return "\n".join(rows)


if __name__ == "__main__":
    print(markdown_table())
