"""Which measures are taken: a light set to leave on, and a full one."""

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from snrl.critics import critic_lipschitz
from snrl.values import measures
from snrl.values.inputs import flatten, head_functions, is_continuous
from snrl.values.probe import Probe
from snrl.values.rollouts import select
from snrl.values.snapshot import SLOPE_STATES, NotApplicableError, Snapshot, Values, need_heads

TAUS = (0.025, 0.1)
STATISTICS = ("mean", "std", "min", "max")
# Sizes of what is measured on a part of the states.
CURVATURE_STATES, CURVATURE_STEPS = 128, 20
PLASTICITY_STATES, PLASTICITY_STEPS, PLASTICITY_RATE = 128, 80, 1e-3


Measure = Callable[[Snapshot], Values]


def statistics(snapshot: Snapshot) -> Values:
    """Q statistics, online and target."""
    online = measures.q_statistics(snapshot.q)
    values = {f"q_{name}": getattr(online, name) for name in STATISTICS}
    if snapshot.q_target is not None:
        target = measures.q_statistics(snapshot.q_target)
        values |= {f"q_target_{name}": getattr(target, name) for name in STATISTICS}
    if len(snapshot.q) == 1:
        raise NotApplicableError("disagreement: there is but one critic", values)
    return values | {"disagreement": online.disagreement}


def target_drift(snapshot: Snapshot) -> Values:
    """How far the online critic has moved from its target."""
    probe = snapshot.probe
    if probe.critic_target is None:
        raise NotApplicableError("target_drift: the algorithm has no target critic")
    pairs = [list(critic.parameters()) for critic in (probe.critic, probe.critic_target)]
    return {"target_drift": measures.drift(*pairs)}


def bias(snapshot: Snapshot) -> Values:
    """Errors of the values against Monte-Carlo returns."""
    weight = float(snapshot.rollouts.weights.mean())
    returns = snapshot.returns
    if returns is None:
        raise NotApplicableError(
            f"bias: with gamma {snapshot.probe.gamma} nearly all of a return lies beyond where "
            "its episode is cut"
        )
    errors = measures.estimate_errors(
        snapshot.estimates, returns, clusters=snapshot.rollouts.episodes
    )
    snapshot.histograms["errors"] = torch.from_numpy(snapshot.estimates - returns)
    values = {
        "return_mean": float(returns.mean()),
        "bias_mean": errors.bias_mean,
        "bias_std": errors.bias_std,
        "bias_mean_normalised": errors.bias_mean_normalised,
        "bias_std_normalised": errors.bias_std_normalised,
        "overestimation_rate": errors.overestimation_rate,
        "absolute_discrepancy": errors.absolute_discrepancy,
        "rank_correlation": errors.rank_correlation,
        "tail_weight": weight,
    }
    # Taking the mean error out of the completion divides it, its sampling error too, by this.
    return values | {"bias_error": errors.bias_standard_error / (1 - weight)}


def td_error(snapshot: Snapshot) -> Values:
    """Mean squared temporal-difference errors, held out and on the replay buffer."""
    probe = snapshot.probe
    batches = {"td_error_heldout": snapshot.states}
    if snapshot.replay is not None:
        batches["td_error_train"] = snapshot.replay
    values = {}
    with torch.no_grad():
        for name, batch in batches.items():
            q = probe.heads(probe.critic, batch.observations, batch.actions)
            errors = probe.targets(batch).mean(1) - q
            values[name] = errors.double().square().mean().item()
    # Before the first update it is merely too early.
    if snapshot.replay is None and probe.updates:
        raise NotApplicableError("td_error_train: there is no replay buffer", values)
    return values


def churn(snapshot: Snapshot) -> Values:
    """What real updates did to values that they were not for."""
    updates = snapshot.updates
    if updates is None:
        if snapshot.probe.updates:
            raise NotApplicableError("churn: no update was watched")
        return {}  # It is merely too early.
    values = {
        "churn_k": measures.churn(updates.before, updates.after),
        "churn_updates": float(updates.count),
    }
    if updates.call > 1:
        raise NotApplicableError(
            "churn: training makes several updates in one call, so that what one of them does "
            "cannot be seen; churn_k can",
            values,
        )
    return {"churn": measures.churn(updates.before, updates.after_call), **values}


def norms(snapshot: Snapshot) -> Values:
    """Norms of effective weights and of a gradient, and effective learning rates."""
    probe = snapshot.probe
    weights = measures.norms(_effective_weights(probe))
    values = {"weight_norm": weights.whole}
    values |= {f"weight_norm/{layer}": norm for layer, norm in weights.each.items()}

    batch = snapshot.batch
    loss = probe.critic_loss(batch, probe.targets(batch))
    stored = {name: p for name, p in probe.critic.named_parameters() if p.requires_grad}
    found = torch.autograd.grad(loss, list(stored.values()), materialize_grads=True)
    slopes = dict(zip(stored, found, strict=True))
    gradients = measures.norms(slopes)
    rates = measures.effective_learning_rates(stored, slopes, probe.learning_rate)
    values |= {
        "grad_norm": gradients.whole,
        "effective_lr": rates.whole,
        "effective_lr_invariant": rates.scale_invariant,
    }
    for layer in weights.each:
        name = f"{layer}.weight"
        if name in stored:
            values[f"grad_norm/{layer}"] = gradients.each[name]
            values[f"effective_lr/{layer}"] = rates.each[name]
    return values


def singular_values(snapshot: Snapshot) -> Values:
    """The spectrum of what the critic's layers apply; for a histogram, no number of its own."""
    weights = _effective_weights(snapshot.probe).values()
    with torch.no_grad():
        spectra = [torch.linalg.svdvals(weight.flatten(1)) for weight in weights]
    snapshot.histograms["singular_values"] = torch.cat(spectra).double().cpu()
    return {}


def dormancy(snapshot: Snapshot) -> Values:
    """Shares of units that are dormant."""
    hidden = [layer for head in snapshot.activations for layer in head.hidden]
    if not hidden:
        raise NotApplicableError("dormant units: the critic has no hidden layer")
    return {f"dormant_{tau:g}": measures.dormant_share(hidden, tau) for tau in TAUS}


def ranks(snapshot: Snapshot) -> Values:
    """Ranks of the features, mean over the critics."""
    features = [head.features for head in snapshot.activations]
    if not features or any(len(phi) < phi.shape[1] for phi in features):
        raise NotApplicableError("feature rank: there are fewer states than features, or none")
    found = [measures.feature_ranks(phi) for phi in features]
    return {
        name: float(np.mean([getattr(rank, name) for rank in found]))
        for name in ("srank", "numerical_rank", "stable_rank")
    }


def lipschitz(snapshot: Snapshot) -> Values:
    """Slopes of the values on visited states."""
    values = {}
    for name, slope in snapshot.slopes.items():
        values[f"lipschitz_{name}_mean"] = slope.mean().item()
        values[f"lipschitz_{name}"] = slope.max().item()
    if "state" not in snapshot.slopes:
        raise NotApplicableError("lipschitz_state: observations are not continuous", values)
    return values


def tightness(snapshot: Snapshot) -> Values:
    """The steepest slope that was seen, over the one that is certified."""
    bounds = critic_lipschitz(snapshot.probe.critic)
    if not bounds:
        raise NotApplicableError("tightness: a layer of the critic has no known Lipschitz constant")
    return {
        f"lipschitz_{name}_tightness": slope.max().item() / bounds[name]
        for name, slope in snapshot.slopes.items()
        if bounds.get(name)
    }


def geometry(snapshot: Snapshot) -> Values:
    """How the slope of the values turns with state and action."""
    need_heads(snapshot.probe)
    if not snapshot.probe.reads_action:
        raise NotApplicableError("geometry: there is no slope in actions that are discrete")
    probe, states = snapshot.probe, snapshot.some(SLOPE_STATES)
    found = [
        measures.geometry(q, flatten(states.observations), states.actions)
        for q in head_functions(probe, states.observations)
    ]
    if not any(part.action.any() or part.mixed.any() for part in found):
        raise NotApplicableError(
            "geometry: the critic is piecewise linear, so that its second derivatives are zero "
            "(a smooth activation such as SiLU has others)"
        )
    values = {"geometry_action": max(part.action.max().item() for part in found)}
    if is_continuous(probe.model.observation_space):
        values["geometry_mixed"] = max(part.mixed.max().item() for part in found)
    return values


def curvature(snapshot: Snapshot) -> Values:
    """Extreme eigenvalues of the Hessian of the critic's loss."""
    probe = snapshot.probe
    batch = select(snapshot.batch, np.arange(min(CURVATURE_STATES, len(snapshot.batch))))
    targets = probe.targets(batch)
    found = measures.loss_curvature(
        lambda: probe.critic_loss(batch, targets),
        [parameter for parameter in probe.critic.parameters() if parameter.requires_grad],
        steps=CURVATURE_STEPS,
        generator=snapshot.generator,
    )
    return {
        "curvature": found.largest,
        "curvature_min": found.smallest,
        "condition_number": found.condition_number,
    }


def plasticity(snapshot: Snapshot) -> Values:
    """How well a copy of the critic still learns."""
    probe, states = snapshot.probe, snapshot.some(PLASTICITY_STATES)
    if len(states) < 2:
        raise NotApplicableError("plasticity: there is but one state")
    loss = measures.plasticity_loss(
        probe.critic,
        lambda critic: probe.heads(critic, states.observations, states.actions),
        steps=PLASTICITY_STEPS,
        learning_rate=PLASTICITY_RATE,
        generator=snapshot.generator,
    )
    return {"plasticity": loss}


def _effective_weights(probe: Probe) -> dict[str, Tensor]:
    weights = probe.effective_weights(probe.critic)
    if not weights:
        raise NotApplicableError("norms: the critic has no linear or convolution layer")
    return weights


LIGHT: tuple[Measure, ...] = (
    statistics,
    target_drift,
    bias,
    td_error,
    churn,
    norms,
    singular_values,
    dormancy,
    ranks,
    lipschitz,
)
FULL: tuple[Measure, ...] = (*LIGHT, tightness, geometry, curvature, plasticity)
