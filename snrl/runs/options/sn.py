"""Spectral normalisation of the critics: names and defaults are those of the SN policies."""

from snrl.runs.modes import MODES
from snrl.runs.options.option import Option
from snrl.runs.values import BOOLEAN, MODE_OPTIONS, SN_COEF, SN_LAYERS, choice, integer

OPTIONS = (
    Option("sn", "sn", BOOLEAN, False, "normalise the critics"),
    Option(
        "sn_layers",
        "sn",
        SN_LAYERS,
        [-2],
        "layers of each critic, counted from the output (-1): negative integers, hidden (all "
        "but first and output) or all",
    ),
    Option(
        "sn_coef",
        "sn",
        SN_COEF,
        1.0,
        "norm each of these layers is held to; or three numbers, to go linearly from one to "
        "another over that many gradient steps",
    ),
    Option("sn_mode", "sn", choice(*MODES), "normalize", "how it is held; see above"),
    Option(
        "sn_mode_options",
        "sn",
        MODE_OPTIONS,
        None,
        "options of that mode: detach=BOOL of normalize, bidirectional, gain and div_out; "
        "strength=X of the penalties, exponent=X of penalty_to_coef; leave_smaller=BOOL of "
        "div_grad and layer_lr",
    ),
    Option("n_power_iterations", "sn", integer(1), 1, "iterations per update of the weights"),
    Option("block_size", "sn", integer(1), 4, "vectors iterated together"),
    Option("sn_features", "sn", BOOLEAN, False, "also normalise the features extractor"),
)
