"""One run, from its configuration to its folder."""

import importlib.util
import time
from contextlib import closing, nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from signal import Signals
from typing import Any

from stable_baselines3.common.logger import JSONOutputFormat, KVWriter, Logger, make_output_format

from snrl.runs import folder as folders
from snrl.runs.build import build_model
from snrl.runs.config import RunConfig
from snrl.runs.envs import make_envs, values_seed
from snrl.runs.errors import ConfigError
from snrl.runs.evaluation import Evaluation, Evaluator
from snrl.runs.folder import RunFolder, written_aside
from snrl.runs.interrupt import stop_on_signals
from snrl.runs.progress import Progress
from snrl.runs.tracking import Tracking, WandbWriter, warn
from snrl.values import ValueStabilityCallback
from snrl.values.divergence import Divergence


@dataclass(frozen=True)
class RunResult:
    """How a run ended.

    Attributes:
        config: What was run.
        folder: Where it is.
        timesteps: Environment steps done.
        evaluation: The last evaluation, if there was one.
        signal: What interrupted the run, if it was.
        divergence: When and how its values diverged, if they did.
        stopped: Whether that ended the run.
    """

    config: RunConfig
    folder: RunFolder
    timesteps: int
    evaluation: Evaluation | None
    signal: Signals | None
    divergence: Divergence | None
    stopped: bool

    def __str__(self) -> str:
        """The final line of a run."""
        config, evaluation = self.config, self.evaluation
        title = f"{_title(config)} on {config.env}"
        if self.signal is not None:
            return (
                f"{title}: interrupted by {self.signal.name} after {self.timesteps} of "
                f"{config.total_timesteps} steps; model saved in {self.folder.model}"
            )
        if self.stopped:
            assert self.divergence is not None
            return (
                f"{title}: diverged after {self.divergence.timesteps} of {config.total_timesteps} "
                f"steps: {self.divergence.reason}; model saved in {self.folder.model}"
            )
        assert evaluation is not None
        target = evaluation.sigma_target
        return (
            f"{title}: return {evaluation.return_mean:.1f} ± {evaluation.return_std:.1f} "
            f"over {len(evaluation.returns)} episodes after {self.timesteps} steps; "
            f"largest sigma {evaluation.sigma_online:.3f} online, "
            f"{'no' if target is None else f'{target:.3f}'} target; run folder {self.folder.path}"
        )


def train(
    config: RunConfig,
    *,
    out: Path | None = None,
    progress: bool = True,
    tensorboard: bool = False,
    tracking: Tracking | None = None,
    command: str = "",
) -> RunResult:
    """Train a model, evaluate it, and record the run in a folder.

    Args:
        config: What to run.
        out: The run folder; None for one that follows from the configuration.
        progress: Whether to show progress on stderr.
        tensorboard: Whether to write TensorBoard files into the run folder.
        tracking: Whether and where to track with W&B.
        command: The command line, for the record.

    Returns:
        How it ended: at its end, or interrupted by a signal.

    Raises:
        ConfigError: If something in the input cannot be; nothing is left on disk then.
    """
    if out is not None:
        folders.check_free(out)
    if tensorboard and importlib.util.find_spec("tensorboard") is None:
        raise ConfigError('--tensorboard needs tensorboard: pip install "snrl[tensorboard]"')
    env, eval_env = make_envs(config)
    # Whatever the input can be refused for has to show before anything is on disk.
    model = build_model(config, env)

    begun = {"status": "running", "reason": None, "command": command, "timesteps": 0}
    with stop_on_signals() as stop:
        folder = folders.create(out, config, begun)
        start = time.monotonic()
        try:
            logger = _logger(config, folder, tensorboard, tracking, command)
            evaluator = Evaluator(config, eval_env, folder, stop)
            values = _values(config)
            bar = Progress(config.total_timesteps, evaluator)
            # The measures come first, so that the evaluation's line of the log takes them along.
            callbacks = [values, evaluator, bar if progress else None]
            measuring = closing(values) if values else nullcontext()
            with closing(env), closing(eval_env), measuring, closing(logger), closing(bar):
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
                folder.write_status(begun | _outcome(result, time.monotonic() - start))
        except BaseException as error:
            reason = f"{type(error).__name__}: {error}"
            failed = {"status": "failed", "reason": reason, "timesteps": model.num_timesteps}
            folder.write_status(begun | failed)
            raise
    return result


def _title(config: RunConfig) -> str:
    return config.algo + (" --sn" if config.sn else "")


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


def _logger(
    config: RunConfig,
    folder: RunFolder,
    tensorboard: bool,
    tracking: Tracking | None,
    command: str,
) -> Logger:
    formats: list[KVWriter] = [JSONOutputFormat(str(folder.progress))]
    if tensorboard:
        formats.append(make_output_format("tensorboard", str(folder.path / "tensorboard")))
    if tracking is not None:
        name = f"{_title(config)} {config.env} seed {config.seed}"
        record = config.as_dict() | {"command": command}
        formats.append(WandbWriter(tracking, folder.path, name, record))
    return Logger(str(folder.path), formats)


def _outcome(result: RunResult, seconds: float) -> dict[str, Any]:
    outcome: dict[str, Any] = {
        "status": "done",
        "reason": None,
        "timesteps": result.timesteps,
        "seconds": round(seconds, 1),
    }
    if result.divergence is not None:
        outcome["divergence"] = asdict(result.divergence)
    if result.signal is not None:
        outcome |= {"status": "interrupted", "reason": result.signal.name}
    elif result.stopped:
        assert result.divergence is not None
        outcome |= {"status": "failed", "reason": f"diverged: {result.divergence.reason}"}
    if (evaluation := result.evaluation) is not None:
        outcome["evaluation"] = asdict(evaluation) | {
            "return_mean": evaluation.return_mean,
            "return_std": evaluation.return_std,
        }
    return outcome
