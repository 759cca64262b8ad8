"""Compiles the C source for this machine, once for each dtype."""

import hashlib
import logging
import os
import platform
import shutil
import subprocess
import tempfile
from pathlib import Path

SOURCES = (
    "kernel.c",
    *("kernel.h", "product.h", "bfloat16.h", "norm.h", "network.h", "actor_critic.h", "tape.h"),
)
FLAGS = ("-std=c11", "-O3", "-fopenmp-simd", "-ffp-contract=fast", "-fno-math-errno")
# Tried in turn: not every compiler knows every processor, nor has OpenMP. Its runtime is the one
# that torch has loaded, so that threads are shared.
TUNED = (("-march=native", "-fopenmp"), ("-fopenmp",), ("-march=native",), ())


def build(*, is_double: bool) -> Path | None:
    """Compile the library for one dtype, or find it compiled before.

    It is kept in ``$SNRL_CACHE_DIR``, by default ``$XDG_CACHE_HOME/snrl`` or ``~/.cache/snrl``,
    under a name made of the source, the flags, the compiler and the processor.

    Args:
        is_double: Whether for float64, else for float32.

    Returns:
        Where it is; None, with the reason logged as a warning of the logger ``snrl``, if there is
        no compiler (``$CC``, or else ``cc``), it fails, or the folder cannot be written.
    """
    compiler = os.environ.get("CC", "").split() or ["cc"]
    if shutil.which(compiler[0]) is None:
        warn(f"there is no C compiler, looked for {compiler[0]} ($CC, or else cc)")
        return None
    here = Path(__file__).parent
    flags = (*FLAGS, "-DDOUBLE") if is_double else FLAGS
    parts = [
        *compiler,
        *flags,
        str(TUNED),
        _processor(),
        *((here / name).read_text() for name in SOURCES),
    ]
    name = hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]
    try:
        target = cache_folder() / f"refresh-{name}.so"
        if target.exists():
            return target
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=target.parent) as folder:
            fresh = Path(folder) / target.name
            end = ("-shared", "-fPIC", str(here / "kernel.c"), "-o", str(fresh), "-lm")
            for tuned in TUNED:
                command = [*compiler, *flags, *tuned, *end]
                done = subprocess.run(command, capture_output=True, text=True)
                if not done.returncode:
                    break
            else:
                warn(f"{compiler[0]} failed: {done.stderr.strip()[-200:]}")
                return None
            # Whole or not at all: other processes may be looking for it.
            fresh.replace(target)
    except (OSError, RuntimeError) as error:  # the latter where there is no home
        warn(str(error))
        return None
    return target


def cache_folder() -> Path:
    """Find where compiled libraries are kept: see :func:`build`."""
    given = os.environ.get("SNRL_CACHE_DIR")
    if given:
        return Path(given)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "snrl"


def _processor() -> str:
    """What decides which instructions there are: a cache may be shared by unlike machines."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    flags = [line for line in lines if line.startswith(("flags", "Features", "model name"))]
    return platform.machine() + platform.processor() + "".join(sorted(set(flags)))


def warn(reason: str) -> None:
    """Say, once for each process, why there are no compiled functions."""
    logging.getLogger("snrl").warning(
        "Spectral normalisation on the CPU goes on in torch, slower: %s.", reason
    )
