"""The stabilisers of a critic and what they do, for ``--help``, which may not load torch.

A test compares this with ``snrl.critics.stabilizers``, which explain themselves.
"""

from collections.abc import Mapping

PLAIN = "plain"


def composition(sn: bool, critic: str) -> str:
    """Name everything that a critic is composed of, as the policies do."""
    names = (["sn"] if sn else []) + ([] if critic == PLAIN else [critic])
    return "+".join(names) or PLAIN


STABILIZERS: Mapping[str, str] = {
    "sn": "hold the largest singular value of layers to a coefficient: bounds the critic's slope",
    "layer_norm": "centre and scale each hidden layer's units: the first thing to try against "
    "divergence",
    "rms_norm": "scale each hidden layer's units to mean square 1, not centred: layer_norm, "
    "cheaper",
    "batch_norm": "normalise each layer's inputs by the batch: with CrossQ alone, in place of its "
    "own norm",
    "batch_renorm": "normalise each layer's inputs by running statistics of batches: CrossQ's own, "
    "with options",
    "weight_norm": "learn each unit's weight length apart from its direction: a control for sn; "
    "bounds nothing",
    "hyperspherical": "keep hidden weights and features at unit length, with learned scales: a "
    "steady step size",
    "unit_norm": "divide the features before the output by their length: against early "
    "overestimation",
    "dropout": "drop hidden units, in the target too: with layer_norm for many updates per step "
    "(DroQ)",
    "simba": "pre-norm residual blocks, four times wider inside: for larger critics; "
    "normalise inputs",
    "bro": "residual blocks with a norm behind each layer: for larger critics and many updates",
    "gradient_penalty": "penalise slopes of Q in the action above a target, on the data: a soft "
    "bound, at the cost of a second backward",
    "feature_penalty": "pull the last hidden activations to 0: against features that grow with the "
    "values",
    "weight_decay": "shrink the weight matrices a little at each step, past Adam's scaling: small "
    "and safe",
    "l2_penalty": "add the weights' squares to the loss: the textbook regulariser, which Adam "
    "rescales",
    "redq": "many critics, of which the target asks two at random: for many updates per step",
}
