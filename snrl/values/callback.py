"""The callback that measures while a model trains."""

import math
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from typing import Any

import numpy as np
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.off_policy_algorithm import OffPolicyAlgorithm
from stable_baselines3.common.type_aliases import TrainFreq, TrainFrequencyUnit

from snrl.values.divergence import Divergence, DivergenceWatch
from snrl.values.environment import EnvOption
from snrl.values.measurer import DEFAULT_SEED, Measurement, Measurer
from snrl.values.moments import Moments
from snrl.values.updates import UpdateWatch

CHURN_UPDATES = 10

_NO_NUMBERS = ("stdout", "log", "json", "csv")


class ValueStabilityCallback(BaseCallback):
    """Measures how good and how steady the values of an SB3 model are, as it trains.

    For any off-policy algorithm with a critic of state and action: SAC, TD3, DDPG, TQC, CrossQ, and
    DQN, of which the greedy policy is judged. The numbers go to the model's logger as ``values/…``
    (the README has a table), histograms of the errors and of the critic's singular values to
    TensorBoard and W&B. Training is the same, bit by bit, as without the callback. The values are
    in the critic's units: of normalised reward where the training environment is a
    ``VecNormalize`` that normalises rewards.

    Args:
        env: A task's name, or an environment that nobody else steps. Its time limit is moved away
            while it is in use.
        measures: ``"light"`` or ``"full"``.
        freq: Environment steps between measurements; the last is at the end of training.
        stop_on_divergence: Whether training ends where it diverges.
        seed: Of the environment and of everything that is drawn; not training's, so that episodes
            begin elsewhere.
        dump: Whether a measurement makes a line of the log; otherwise the next dump takes it
            along, such as that of an ``EvalCallback`` with the same frequency behind this one.
        say: Takes one line where there is something to say: that training diverged, or that a
            measure does not apply, which is then left out; a logged warning if None.

    Attributes:
        divergence: When and how training diverged, if it did.
        latest: The latest measurement, if there was one.
        seconds: Time spent here since training began.

    Raises:
        ValueError: If ``freq`` is less than 1; when training starts, if the model or the
            environment do not serve.
    """

    model: OffPolicyAlgorithm

    def __init__(
        self,
        env: EnvOption,
        measures: str = "light",
        freq: int = 10_000,
        *,
        stop_on_divergence: bool = False,
        seed: int = DEFAULT_SEED,
        dump: bool = True,
        say: Callable[[str], None] | None = None,
    ) -> None:
        """Keep the options; the model comes later."""
        super().__init__()
        if freq < 1:
            raise ValueError(f"freq must be at least 1, got {freq}")
        self.divergence: Divergence | None = None
        self.latest: Measurement | None = None
        self._env = env
        self._set = measures
        self._freq = freq
        self._stops = stop_on_divergence
        self._seed = seed
        self._dump = dump
        self._say = say
        self.seconds = 0.0
        self._begin = 0.0
        self._measurer: Measurer | None = None

    def state_dict(self) -> dict[str, Any]:
        """What a training that goes on elsewhere needs, for a checkpoint between two rollouts."""
        assert self._measurer is not None
        return {
            "divergence": None if self.divergence is None else asdict(self.divergence),
            "seconds": self.seconds,
            "elapsed": time.perf_counter() - self._begin,
            "measurer": self._measurer.state_dict(),
            "divergences": self._divergences.state_dict(),
            "updates": self._updates.state_dict(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from where :meth:`state_dict` was called; training has begun."""
        assert self._measurer is not None
        divergence = state["divergence"]
        self.divergence = None if divergence is None else Divergence(**divergence)
        self.seconds = state["seconds"]
        self._begin = time.perf_counter() - state["elapsed"]
        self._measurer.load_state_dict(state["measurer"])
        self._divergences.load_state_dict(state["divergences"])
        self._updates.load_state_dict(state["updates"])

    def close(self) -> None:
        """Close the environment, if it was made here from a task's name."""
        if self._measurer is not None and isinstance(self._env, str):
            self._measurer.close()

    def _init_callback(self) -> None:
        if self._measurer is not None and self._measurer.probe.model is self.model:
            return  # training goes on
        self._measurer = Measurer(self.model, self._env, self._set, self._seed, self._say)
        self._divergences = DivergenceWatch(self._measurer.probe)
        self._updates = UpdateWatch(self._measurer.probe, CHURN_UPDATES)

    def _on_training_start(self) -> None:
        self._moments = Moments(self._freq, self.model._total_timesteps)
        self._lead = self._watched_steps()
        self._divergences.begin()
        self._begin = time.perf_counter()
        self.seconds = 0.0

    def _on_rollout_start(self) -> None:
        # Called right after an update, before the next step of the environment.
        with self._timed():
            self._updates.after_call()
            self._look_for_divergence()

    def _on_rollout_end(self) -> None:
        if self._updates.is_watching:
            with self._timed():
                self._updates.before_call()

    def _on_step(self) -> bool:
        with self._timed():
            if not self._divergences.see_rewards(self.locals["rewards"]):
                self._look_for_divergence()
            n_envs = self.training_env.num_envs
            if self._moments.is_due(self.num_timesteps, n_envs):
                self._measure()
            elif not self._updates.is_watching and self._is_shortly_before():
                assert self._measurer is not None
                self._updates.start(self._measurer.reference())
        return not (self._stops and self.divergence)

    def _on_training_end(self) -> None:
        with self._timed():
            self._look_for_divergence()
            if self.num_timesteps >= self._moments.end and not (self._stops and self.divergence):
                self._measure()
            self._updates.finish()

    def _measure(self) -> None:
        updates = self._updates.finish()
        assert self._measurer is not None
        if not self._measurer.probe.is_finite():
            self._report("a weight is not finite")
        else:
            self.latest = self._measurer.measure(updates)
            for name, value in self.latest.values.items():
                self.logger.record(f"values/{name}", value)
            for name, values in self.latest.histograms.items():
                self.logger.record(f"values/{name}_histogram", values, exclude=_NO_NUMBERS)
            self._report(self._divergences.check(_extreme(self.latest.values)))
        self.logger.record("values/diverged", float(self.divergence is not None))
        elapsed = time.perf_counter() - self._begin
        self.logger.record("values/time_share", self._seconds_now() / elapsed)
        if self._dump:
            self._dump_line()

    def _is_shortly_before(self) -> bool:
        """Tell whether the updates before the next moment are those to watch."""
        steps = self.num_timesteps
        return steps > self.model.learning_starts and self._moments.until_next(steps) <= self._lead

    def _watched_steps(self) -> int:
        """How many environment steps the updates that are watched take; 0 if there are none."""
        train_freq, per_call = self.model.train_freq, self.model.gradient_steps
        assert isinstance(train_freq, TrainFreq)  # as SB3 has made it of what was given
        if per_call == 0:
            return 0
        if train_freq.unit == TrainFrequencyUnit.EPISODE:
            return self._freq  # nobody knows how long an episode is
        per_call = train_freq.frequency if per_call < 0 else per_call
        calls = math.ceil(CHURN_UPDATES / per_call) + 1
        return calls * train_freq.frequency * self.training_env.num_envs

    def _look_for_divergence(self) -> None:
        if self.divergence is None:
            self._report(self._divergences.check())

    def _report(self, reason: str | None) -> None:
        if reason is None or self.divergence is not None:
            return
        assert self._measurer is not None
        self.divergence = Divergence(self.num_timesteps, reason)
        self._measurer.say(f"diverged at step {self.num_timesteps}: {reason}")
        self.logger.record("values/diverged", 1.0)
        self._dump_line()

    def _dump_line(self) -> None:
        self.logger.record("time/total_timesteps", self.num_timesteps, exclude="tensorboard")
        self.logger.dump(self.num_timesteps)

    @contextmanager
    def _timed(self) -> Iterator[None]:
        self._entered = time.perf_counter()
        try:
            yield
        finally:
            self.seconds = self._seconds_now()

    def _seconds_now(self) -> float:
        return self.seconds + time.perf_counter() - self._entered


def _extreme(values: Mapping[str, float]) -> float:
    """The largest ``|Q|``, online or target; NaN where an online one is."""
    online = [values.get(name, math.nan) for name in ("q_min", "q_max")]
    target = [values[name] for name in ("q_target_min", "q_target_max") if name in values]
    return float(np.abs([*online, *target]).max())
