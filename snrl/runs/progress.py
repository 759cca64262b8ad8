"""How far a run is, on stderr."""

import shutil
import sys
import time
from typing import Any

from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.utils import safe_mean
from tqdm import tqdm

from snrl.runs.evaluation import Evaluation, Evaluator


class Progress(BaseCallback):
    """A bar with an ETA on a terminal; elsewhere a line at each evaluation.

    Args:
        total_timesteps: Length of the run.
        evaluator: Gives the latest evaluated return; has to come first among the callbacks.
    """

    def __init__(self, total_timesteps: int, evaluator: Evaluator) -> None:
        """Keep what is shown."""
        super().__init__()
        self._total = total_timesteps
        self._evaluator = evaluator
        self._shown: Evaluation | None = None
        self._bar: tqdm[Any] | None = None
        self._start: float | None = None
        self._first = 0

    def _on_rollout_start(self) -> None:
        if self._start is None:
            self._begin()

    def _begin(self) -> None:
        # At the first rollout, when a run that is resumed is where it was.
        self._start = time.monotonic()
        self._first = self.model.num_timesteps
        self._shown = self._evaluator.latest
        if sys.stderr.isatty():
            # Given explicitly, because tqdm draws nothing where the terminal reports no size.
            size = shutil.get_terminal_size()
            self._bar = tqdm(
                total=self._total,
                initial=self._first,
                unit="step",
                unit_scale=True,
                ncols=size.columns,
                nrows=size.lines,
            )

    def _on_step(self) -> bool:
        evaluation = self._evaluator.latest
        is_new, self._shown = evaluation is not self._shown, evaluation
        if self._bar is not None:
            if is_new or self.locals["dones"].any():
                self._bar.set_postfix_str(self._values(), refresh=False)
            self._bar.update(self.training_env.num_envs)
        elif is_new:
            self._print_line()
        return True

    def _values(self) -> str:
        assert self.model.ep_info_buffer is not None
        parts = []
        if self._shown is not None:
            parts.append(f"eval {self._shown.return_mean:.4g}")
        if self.model.ep_info_buffer:
            mean = safe_mean([episode["r"] for episode in self.model.ep_info_buffer])
            parts.append(f"train {mean:.4g}")
        return ", ".join(parts)

    def _print_line(self) -> None:
        assert self._start is not None
        speed = (self.num_timesteps - self._first) / (time.monotonic() - self._start)
        left = tqdm.format_interval((self._total - self.num_timesteps) / speed)
        print(
            f"{self.num_timesteps}/{self._total} steps, {speed:.0f} steps/s, {left} left, "
            f"return: {self._values()}",
            file=sys.stderr,
            flush=True,
        )

    def close(self) -> None:
        """Leave the bar as it stands."""
        if self._bar is not None:
            self._bar.close()
