"""One run, from its configuration to its folder."""

import importlib.util
import os
import secrets
import shutil
import socket
from contextlib import closing, nullcontext, suppress
from pathlib import Path
from typing import Any

from snrl.runs import folder as folders
from snrl.runs.build import build_model
from snrl.runs.checkpoint.callback import Checkpointer
from snrl.runs.checkpoint.generations import Generations
from snrl.runs.config import RunConfig
from snrl.runs.envs import make_envs, values_seed
from snrl.runs.errors import ConfigError
from snrl.runs.evaluation import Evaluator
from snrl.runs.folder import written_aside
from snrl.runs.interrupt import stop_on_signals
from snrl.runs.log import make_logger
from snrl.runs.progress import Progress
from snrl.runs.result import RunResult
from snrl.runs.resume import Resumed, ended, go_on
from snrl.runs.tracking import Tracking, warn
from snrl.spectral.precision import products
from snrl.values import ValueStabilityCallback

CHECKPOINT_MINUTES = 5.0


def train(
    config: RunConfig,
    *,
    out: Path | None = None,
    resume: bool = False,
    checkpoint_minutes: float = CHECKPOINT_MINUTES,
    progress: bool = True,
    tensorboard: bool = False,
    tracking: Tracking | None = None,
    command: str = "",
) -> RunResult:
    """Train a model, evaluate it, and record the run in a folder.

    Args:
        config: What to run.
        out: The run folder; None for one that follows from the configuration.
        resume: Whether to go on with the run that the folder holds, if it holds one: from its last
            checkpoint, or not at all where it has come to its end.
        checkpoint_minutes: Minutes between checkpoints, which are also written when the run is
            interrupted; 0 for none.
        progress: Whether to show progress on stderr.
        tensorboard: Whether to write TensorBoard files into the run folder.
        tracking: Whether and where to track with W&B.
        command: The command line, for the record.

    Returns:
        How it ended: at its end, or interrupted by a signal.

    Raises:
        ConfigError: If something in the input cannot be; nothing is left on disk then, or what was
            there is as it was.
    """
    if resume:
        out = out or folders.default_path(config)
        if (result := ended(out, config)) is not None:
            return result
    elif out is not None:
        folders.check_free(out)
    if tensorboard and importlib.util.find_spec("tensorboard") is None:
        raise ConfigError('--tensorboard needs tensorboard: pip install "snrl[tensorboard]"')
    env, eval_env = make_envs(config)
    # Whatever the input can be refused for has to show before anything is on disk.
    model = build_model(config, env)

    begun = _begun(command)
    with (
        stop_on_signals() as stop,
        folders.opened(out, config, begun, resume=resume) as folder,
    ):
        # It may have come to its end while this process got ready.
        if resume and (result := ended(folder.path, config)) is not None:
            return result
        resumed = go_on(folder) if resume else Resumed(Generations(folder.checkpoint))
        begun["wandb_id"] = folder.read_status().get("wandb_id", begun["wandb_id"])
        begun["timesteps"] = resumed.timesteps
        folder.write_status(begun)
        try:
            logger = make_logger(config, folder, resumed, tensorboard, tracking, begun)
            evaluator = Evaluator(config, eval_env, folder, stop)
            values = _values(config)
            checkpointer = Checkpointer(
                folder, stop, checkpoint_minutes, evaluator, values, resumed, warn
            )
            bar = Progress(config.total_timesteps, evaluator)
            # The measures come first, so that the evaluation's line of the log takes them along.
            callbacks = [values, evaluator, checkpointer, bar if progress else None]
            measuring = closing(values) if values else nullcontext()
            precision = config.matmul_precision
            chosen = products(precision) if precision else nullcontext()
            with chosen, closing(env), closing(eval_env), measuring, closing(logger), closing(bar):
                model.set_logger(logger)
                model.learn(config.total_timesteps, [x for x in callbacks if x is not None])
                with written_aside(folder.model) as aside:
                    model.save(aside)
                divergence = values.divergence if values else None
                stopped = config.stop_on_divergence and divergence is not None
                final = None if stop or stopped else evaluator.evaluate()
                signal = stop.signal if final is None else None
                result = RunResult(
                    config,
                    folder,
                    model.num_timesteps,
                    evaluator.latest,
                    signal,
                    divergence,
                    stopped,
                )
                # Before W&B finishes, which may take a while and changes nothing.
                folder.write_status(begun | result.as_status(checkpointer.elapsed))
                if signal is None:
                    shutil.rmtree(folder.checkpoint, ignore_errors=True)
        except BaseException as error:
            reason = f"{type(error).__name__}: {error}"
            failed = {"status": "failed", "reason": reason, "timesteps": model.num_timesteps}
            # On a full disk the error itself is what has to be seen.
            with suppress(OSError):
                folder.write_status(begun | failed)
            raise
    return result


def _begun(command: str) -> dict[str, Any]:
    return {
        "status": "running",
        "reason": None,
        "command": command,
        "timesteps": 0,
        "pid": os.getpid(),
        "host": socket.gethostname(),
        "wandb_id": secrets.token_hex(4),
    }


def _values(config: RunConfig) -> ValueStabilityCallback | None:
    if config.values == "off":
        return None
    return ValueStabilityCallback(
        config.env,
        config.values,
        config.eval_freq,
        stop_on_divergence=config.stop_on_divergence,
        seed=values_seed(config),
        dump=False,
        say=warn,
    )
