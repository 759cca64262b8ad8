"""Statistics of runs over seeds and tasks: estimates, intervals, comparisons, summaries."""

from snrl.studies.statistics.aggregates import iqm, mean, median, optimality_gap
from snrl.studies.statistics.bootstrap import Band, Interval, Options, band, interval
from snrl.studies.statistics.curves import align, area, performance_profile, sample_efficiency
from snrl.studies.statistics.improvement import probability_of_improvement
from snrl.studies.statistics.pairs import PairedDifference, holm, paired_difference
from snrl.studies.statistics.scores import (
    RunScores,
    curve_array,
    normalize,
    references,
    run_scores,
    score_matrix,
)
from snrl.studies.statistics.summary import Summary, summarise
from snrl.studies.statistics.words import in_words

__all__ = [
    "Band",
    "Interval",
    "Options",
    "PairedDifference",
    "RunScores",
    "Summary",
    "align",
    "area",
    "band",
    "curve_array",
    "holm",
    "in_words",
    "interval",
    "iqm",
    "mean",
    "median",
    "normalize",
    "optimality_gap",
    "paired_difference",
    "performance_profile",
    "probability_of_improvement",
    "references",
    "run_scores",
    "sample_efficiency",
    "score_matrix",
    "summarise",
]
