"""When a run writes a checkpoint, what it holds, and how a run goes on from it."""

import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.off_policy_algorithm import OffPolicyAlgorithm

from snrl.runs.checkpoint.episode import RecordedEpisode
from snrl.runs.checkpoint.generations import Generation
from snrl.runs.checkpoint.model import model_state, restore_model
from snrl.runs.checkpoint.replay import ReplaySegments, name
from snrl.runs.checkpoint.state_file import load_state, save_state
from snrl.runs.errors import ConfigError
from snrl.runs.evaluation import Evaluator
from snrl.runs.folder import RunFolder, written_aside
from snrl.runs.interrupt import StopRequest
from snrl.runs.resume import Resumed
from snrl.values import ValueStabilityCallback
from snrl.values.env_generators import capture_envs, install_envs
from snrl.values.generators import GeneratorStates, capture, install

# So long, as a share of the interval, a checkpoint that is due waits for the start of an episode.
_PATIENCE = 0.5


class Checkpointer(BaseCallback):
    """Writes checkpoints between two rollouts, and takes the run back to one at its beginning.

    It has to come behind the callbacks whose state it keeps, as their hooks run before. It also
    ends training when the run was asked to stop, after a last checkpoint.

    Args:
        folder: The run's.
        stop: When set, training stops.
        minutes: Between checkpoints; 0 for none.
        evaluator: Whose state is kept.
        values: Whose state is kept, if there is one.
        resumed: Where checkpoints are, and the one to go on from.
        say: Takes one line where there is something to say.
    """

    model: OffPolicyAlgorithm

    def __init__(
        self,
        folder: RunFolder,
        stop: StopRequest,
        minutes: float,
        evaluator: Evaluator,
        values: ValueStabilityCallback | None,
        resumed: Resumed,
        say: Callable[[str], None],
    ) -> None:
        """Keep what is needed; the model comes later."""
        super().__init__()
        self._folder = folder
        self._stop = stop
        self._interval = 60 * minutes
        self._evaluator = evaluator
        self._values = values
        self._generations = resumed.generations
        self._resumed = resumed.generation
        self._say = say
        self._is_ending = False
        self._episode_begins = True
        self._has_failed = False
        self._written: int | None = None
        self._before = 0.0
        self.seconds = 0.0

    @property
    def elapsed(self) -> float:
        """Seconds that the run has taken, with what came before it was resumed."""
        return self._before + time.monotonic() - self._start

    def _on_training_start(self) -> None:
        self._start = self._last = time.monotonic()
        self._replay: ReplaySegments | None = None
        assert self.model.replay_buffer is not None
        if self._interval or self._resumed:
            self._replay = ReplaySegments(self.model.replay_buffer)

    def _on_rollout_start(self) -> None:
        # Called right after an update, with nothing half done: the one moment at which the state of
        # training is that of its parts.
        if self._resumed is not None:
            resumed, self._resumed = self._resumed, None
            self._restore(resumed)
        if self._is_due():
            self._write()
        self._is_ending = bool(self._stop)

    def _on_step(self) -> bool:
        self._episode_begins = bool(self.locals["dones"].all())
        # Half a rollout cannot be kept: it goes on to its end, unless that takes too long.
        return not (self._is_ending or self._stop.is_overdue or (self._stop and not self._interval))

    def _is_due(self) -> bool:
        if not self._interval:
            return False
        if self._stop:
            return True
        waited = time.monotonic() - self._last
        return waited >= self._interval * (1 if self._episode_begins else 1 + _PATIENCE)

    def _write(self) -> None:
        if self._written == self.model.num_timesteps:
            return
        begin = time.monotonic()
        try:
            self._write_generation()
        except OSError as error:
            if not self._has_failed:
                self._say(
                    f"no checkpoint could be written to {self._folder.checkpoint}: "
                    f"{error.strerror or error}; the run goes on, and tries again"
                )
            self._has_failed = True
        self._last = time.monotonic()
        self.seconds += self._last - begin

    def _write_generation(self) -> None:
        steps = self.model.num_timesteps
        assert self._replay is not None
        new, old = self._replay.plan(steps // self.model.n_envs)
        state = {
            "elapsed": self.elapsed,
            "replay": self._replay.head(),
            "segments": [*old, *new],
            "model": model_state(self.model),
            "episodes": [part.state() for part in self._episodes()],
            "evaluator": self._evaluator.state_dict(),
            "evaluation_envs": capture_envs(self._evaluator.env),
            "values": None if self._values is None else self._values.state_dict(),
            "generators": capture(self.model.device)._asdict(),
        }
        files: dict[str, Callable[[Path], None]] = self._replay.writers(new)
        files[f"state-{steps}.pt"] = lambda path: save_state(state, path)
        best = self._folder.best_model
        if best.exists():
            files[f"best_model-{steps}.zip"] = lambda path: _link(best, path)
        content = {"timesteps": steps, "log": _synced_size(self._folder.progress)}
        self._generations.write(files, [name(*segment) for segment in old], content)
        self._replay.note([*old, *new])
        self._written = steps
        self._has_failed = False

    def _restore(self, resumed: Generation) -> None:
        steps = resumed.content["timesteps"]
        try:
            state = load_state(resumed.folder / f"state-{steps}.pt")
            self._before = state["elapsed"]
            assert self._replay is not None
            self._replay.restore(resumed.folder, state["segments"], state["replay"])
            restore_model(self.model, state["model"])
            self._evaluator.load_state_dict(state["evaluator"])
            install_envs(self._evaluator.env, state["evaluation_envs"])
            if self._values is not None:
                self._values.load_state_dict(state["values"])
        except (KeyError, ValueError, RuntimeError) as error:
            raise ConfigError(
                f"the checkpoint in {resumed.folder} does not fit this version of snrl or of what "
                f"it is built on: {error}"
            ) from error
        self.model.start_time = time.time_ns() - int(1e9 * self._before)
        best = resumed.folder / f"best_model-{steps}.zip"
        if best.name in resumed.files:
            with written_aside(self._folder.best_model) as aside:
                _link(best, aside)
        self._rebuild(state["episodes"])
        install(GeneratorStates(**state["generators"]), self.model.device)
        self._written = steps

    def _rebuild(self, episodes: list[dict[str, Any] | None]) -> None:
        """Bring the tasks to where they were, or begin new episodes."""
        pairs = zip(self._episodes(), episodes, strict=True)
        rebuilt = [part.rebuild(state) for part, state in pairs]
        if all(rebuilt):
            if not all(part.forgets for part in self._episodes()):
                self._say(
                    "the task keeps something of its past episodes, which a checkpoint cannot: the "
                    "run goes on, but not bit by bit as it would have"
                )
            return
        self._say(
            "the task's state could not be rebuilt: the run goes on with a new episode, and not "
            "bit by bit as it would have"
        )
        assert self.model.env is not None
        assert self._replay is not None
        self._replay.cut()
        self.model._last_obs = self.model.env.reset()  # type: ignore[assignment]
        if self.model.action_noise is not None:
            self.model.action_noise.reset()

    def _episodes(self) -> list[RecordedEpisode]:
        assert self.model.env is not None
        inner: Any = self.model.env.unwrapped
        return list(inner.envs)


def _synced_size(path: Path) -> int:
    """Size of a file, all of which is on the disk."""
    with path.open("rb") as file:
        os.fsync(file.fileno())
        return file.seek(0, os.SEEK_END)


def _link(source: Path, target: Path) -> None:
    """Give a file, which is only ever replaced, a second name; copy it where that cannot be."""
    # What is left of an attempt may be a second name as well, and must not be written to.
    target.unlink(missing_ok=True)
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)
