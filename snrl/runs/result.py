"""How a run ended: its final line, and its entry in ``status.json``."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from signal import Signals
from typing import Any

from snrl.runs.config import RunConfig
from snrl.runs.evaluation import Evaluation
from snrl.runs.folder import RunFolder
from snrl.runs.stabilizers import PLAIN
from snrl.runs.words import counted
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
        title = f"{run_title(config)} on {config.env}"
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
            f"over {counted(len(evaluation.returns), 'episode')} after {self.timesteps} steps; "
            f"largest sigma {evaluation.sigma_online:.3f} online, "
            f"{'no' if target is None else f'{target:.3f}'} target; run folder {self.folder.path}"
        )

    def as_status(self, seconds: float) -> dict[str, Any]:
        """Return what ``status.json`` says of the end.

        Args:
            seconds: What the run has taken.
        """
        status: dict[str, Any] = {
            "status": "done",
            "reason": None,
            "timesteps": self.timesteps,
            "seconds": round(seconds, 1),
        }
        if self.divergence is not None:
            status["divergence"] = asdict(self.divergence)
        if self.signal is not None:
            status |= {"status": "interrupted", "reason": self.signal.name}
        elif self.stopped:
            assert self.divergence is not None
            status |= {"status": "failed", "reason": f"diverged: {self.divergence.reason}"}
        if (evaluation := self.evaluation) is not None:
            status["evaluation"] = asdict(evaluation) | {
                "return_mean": evaluation.return_mean,
                "return_std": evaluation.return_std,
            }
        return status


def result_from(
    status: Mapping[str, Any], config: RunConfig, folder: RunFolder
) -> RunResult | None:
    """Read how a run ended from its status.

    Args:
        status: What ``status.json`` holds.
        config: What was run.
        folder: Where it is.

    Returns:
        What :meth:`RunResult.as_status` was called on; None if the run has not come to its end.
    """
    stopped = status.get("status") == "failed" and str(status["reason"]).startswith("diverged: ")
    if status.get("status") != "done" and not stopped:
        return None
    evaluation, divergence = status.get("evaluation"), status.get("divergence")
    names = [field.name for field in fields(Evaluation)]
    return RunResult(
        config,
        folder,
        status["timesteps"],
        evaluation and Evaluation(**{name: evaluation[name] for name in names}),
        None,
        divergence and Divergence(**divergence),
        stopped,
    )


def run_title(config: RunConfig) -> str:
    """Name an algorithm and what its critic is composed of, as flags do."""
    critic = "" if config.critic == PLAIN else f" --critic {config.critic}"
    return config.algo + (" --sn" if config.sn else "") + critic
