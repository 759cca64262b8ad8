"""Measures of values: arrays, tensors and callables in, numbers out; nothing here knows SB3."""

from snrl.values.measures.churn import churn
from snrl.values.measures.curvature import (
    ExtremeEigenvalues,
    extreme_eigenvalues,
    loss_curvature,
)
from snrl.values.measures.divergence import divergence, squared_loss_bound, value_bound
from snrl.values.measures.errors import EstimateErrors, estimate_errors
from snrl.values.measures.features import FeatureRanks, dormant_share, feature_ranks
from snrl.values.measures.geometry import Geometry, geometry
from snrl.values.measures.lipschitz import input_gradient_norms
from snrl.values.measures.norms import (
    EffectiveLearningRates,
    Norms,
    effective_learning_rates,
    norms,
)
from snrl.values.measures.plasticity import plasticity_loss
from snrl.values.measures.returns import discounted_returns, entropy_terms, tail_length
from snrl.values.measures.stability import (
    ReturnStability,
    SeedStability,
    return_stability,
    seed_stability,
)
from snrl.values.measures.statistics import QStatistics, drift, q_statistics

__all__ = [
    "EffectiveLearningRates",
    "EstimateErrors",
    "ExtremeEigenvalues",
    "FeatureRanks",
    "Geometry",
    "Norms",
    "QStatistics",
    "ReturnStability",
    "SeedStability",
    "churn",
    "discounted_returns",
    "divergence",
    "dormant_share",
    "drift",
    "effective_learning_rates",
    "entropy_terms",
    "estimate_errors",
    "extreme_eigenvalues",
    "feature_ranks",
    "geometry",
    "input_gradient_norms",
    "loss_curvature",
    "norms",
    "plasticity_loss",
    "q_statistics",
    "return_stability",
    "seed_stability",
    "squared_loss_bound",
    "tail_length",
    "value_bound",
]
