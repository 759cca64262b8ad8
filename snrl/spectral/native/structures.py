"""The structures of ``kernel.c``, field by field; what they mean stands there."""

import ctypes
from enum import IntEnum

_address, _long, _double = ctypes.c_void_p, ctypes.c_int64, ctypes.c_double


class Norm(ctypes.Structure):
    """LayerNorm or RMSNorm behind a layer."""

    _fields_ = (
        *((name, _address) for name in ("gamma", "beta", "z", "rates", "ggamma", "gbeta")),
        ("centred", _long),
        ("eps", _double),
    )


class Layer(ctypes.Structure):
    """A linear layer, and what follows it."""

    _fields_ = (
        *((x, _address) for x in ("w", "b", "x", "y", "gy", "ga", "gw", "gb", "u", "v", "overlap")),
        ("norm", ctypes.POINTER(Norm)),
        *((name, _long) for name in ("m", "n", "x_rows", "relu", "bfloat16")),
        *((name, _double) for name in ("scale", "slope")),
    )


class Network(ctypes.Structure):
    """A chain of layers."""

    _fields_ = (
        ("layers", _address),
        ("gx", _address),
        ("depth", _long),
        ("from_column", _long),
    )


class AdamOptions(ctypes.Structure):
    """Options of Adam for a group of parameters."""

    _fields_ = (
        *((name, _double) for name in ("lr", "beta1", "beta2", "eps", "weight_decay")),
        *((name, _long) for name in ("decoupled", "maximize")),
    )


class PhaseKind(IntEnum):
    """What is done in a phase, and by that what its arguments are."""

    ON_PANELS = 0
    ONCE = 1
    TO_WEIGHTS = 2
    THROUGH_SCALE = 3
    MOVE = 4
    REFRESH = 5


class Phase(ctypes.Structure):
    """A part of a tape."""

    _fields_ = (("kind", _long), ("flag", _long), ("arguments", _address), ("count", _long))


class Kind(IntEnum):
    """Which operation."""

    LOAD = 0
    STORE = 1
    COPY = 2
    FORWARD = 3
    BACKWARD = 4
    SQUASH = 5
    UNSQUASH = 6
    TANH = 7
    UNTANH = 8
    DIFFERENCES = 9
    LEAST = 10
    ALL = 11
    SUM = 12
    READ_TEMPERATURE = 13
    TO_TEMPERATURE = 14
    JOIN = 15
    SCALE = 16
    BACKWARD_SOME = 17


class Operation(ctypes.Structure):
    """An operation of a phase."""

    _fields_ = (("kind", _long), ("arguments", _address))


class Load(ctypes.Structure):
    """Arguments of LOAD and STORE."""

    _fields_ = (
        *(("slot", _long), ("width", _long)),
        *(("to", _address), ("to_rows", _long)),
    )


class Copy(ctypes.Structure):
    """Arguments of COPY."""

    _fields_ = (("from", _address), ("width", _long), ("to", _address), ("to_rows", _long))


class Through(ctypes.Structure):
    """Arguments of FORWARD, BACKWARD and BACKWARD_SOME."""

    _fields_ = (("networks", _address), ("count", _long), ("to_input", _long))


class Squash(ctypes.Structure):
    """Arguments of SQUASH."""

    _fields_ = (
        *(("y", _address), ("dim", _long), ("slot", _long), ("spread", _address)),
        *(("to", _address), ("to_rows", _long), ("log_prob", _address), ("total", _address)),
    )


class Unsquash(ctypes.Structure):
    """Arguments of UNSQUASH."""

    _fields_ = (
        *(("of", _address), ("networks", _address), ("count", _long)),
        *(("gy", _address), ("ent_coef", _address)),
    )


class Tanh(ctypes.Structure):
    """Arguments of TANH."""

    _fields_ = (
        *(("y", _address), ("y_rows", _long), ("dim", _long), ("slot", _long)),
        *(("to", _address), ("to_rows", _long)),
    )


class Untanh(ctypes.Structure):
    """Arguments of UNTANH."""

    _fields_ = (("of", _address), ("networks", _address), ("count", _long), ("gy", _address))


class Differences(ctypes.Structure):
    """Arguments of DIFFERENCES."""

    _fields_ = (
        *(("networks", _address), ("targets", _address)),
        *(("count", _long), ("subset", _long), ("slot", _long)),
        *(("log_prob", _address), ("ent_coef", _address), ("share", _double), ("total", _address)),
    )


class Climb(ctypes.Structure):
    """Arguments of LEAST and ALL."""

    _fields_ = (
        *(("networks", _address), ("count", _long)),
        *(("share", _double), ("total", _address)),
    )


class Sum(ctypes.Structure):
    """Arguments of SUM."""

    _fields_ = (("parts", _address), ("to", _long))


class Temperature(ctypes.Structure):
    """Arguments of READ_TEMPERATURE and TO_TEMPERATURE."""

    _fields_ = (
        *(("value", _double), ("log", _address), ("grad", _address)),
        *(("wanted", _double), ("from", _long)),
    )


class Join(ctypes.Structure):
    """Arguments of JOIN."""

    _fields_ = (("table", _address), ("count", _long))


class Scaled(ctypes.Structure):
    """A layer whose scale follows its norm."""

    _fields_ = (
        *(("layer", _address), ("sigma", _address), ("coef", _double)),
        *(("capped", _long), ("detached", _long)),
    )


class Scale(ctypes.Structure):
    """Arguments of SCALE."""

    _fields_ = (("rows", _address), ("count", _long))


class Parameter(ctypes.Structure):
    """A parameter that Adam steps."""

    _fields_ = (
        *((x, _address) for x in ("p", "g", "m", "v", "steps", "target", "options")),
        *(("count", _long), ("rows", _long)),
    )


class Move(ctypes.Structure):
    """Arguments of the phase MOVE."""

    _fields_ = (("rows", _address), ("count", _long), ("average", _long), ("tau", _double))


class Refresh(ctypes.Structure):
    """Arguments of the phase REFRESH."""

    _fields_ = (
        *(("table", _address), ("count", _long), ("targets", _long)),
        *(("slot", _long), ("n_power_iterations", _long)),
        *(("rtol", _double), ("max_steps", _long)),
    )
