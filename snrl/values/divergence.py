"""Divergence, seen at the step at which it happens, from numbers that training computes anyway."""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from stable_baselines3 import HerReplayBuffer

from snrl.values.measures.divergence import divergence, value_bound
from snrl.values.probe import Probe

# A network overshoots what rewards allow: what is this many times as large has diverged.
ROOM = 2.0
# Values of tasks whose rewards are all zero so far are no larger than this by chance.
LEAST_BOUND = 10.0
# |log pi| per action dimension, on average over a batch, of any policy but a collapsed one.
LOG_PROB = 10.0


@dataclass(frozen=True)
class Divergence:
    """That training diverged.

    Attributes:
        timesteps: Environment steps before the update that showed it.
        reason: What was seen.
    """

    timesteps: int
    reason: str


class DivergenceWatch:
    """Compares critic loss and values with a bound derived from the rewards and gamma.

    The rewards are those seen so far, as the critic is trained on them, and the bound is
    ``ROOM · max(|r|, …) / (1 - gamma)``: see :func:`~snrl.values.measures.value_bound`. SAC's
    entropy counts with the largest alpha so far.

    Args:
        probe: The model.
    """

    def __init__(self, probe: Probe) -> None:
        """Nothing was seen yet."""
        self._probe = probe
        self._low, self._high = math.inf, -math.inf
        self._odd: float | None = None
        self._alpha = 0.0
        self._bound = math.inf
        self._normalizer = probe.model.get_vec_normalize_env()
        self._dims = math.prod(probe.model.action_space.shape or (1,))

    def state_dict(self) -> dict[str, float | None]:
        """What was seen so far, for a checkpoint."""
        return {"low": self._low, "high": self._high, "odd": self._odd, "alpha": self._alpha}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on with what :meth:`state_dict` says was seen."""
        self._low, self._high = state["low"], state["high"]
        self._odd, self._alpha = state["odd"], state["alpha"]
        self._bound = self._compute_bound()

    def begin(self) -> None:
        """Take note of the environment and of the replay buffer that are trained with now."""
        self._normalizer = self._probe.model.get_vec_normalize_env()
        # Rewards from before, as where training goes on with a buffer that was saved.
        buffer: Any = self._probe.model.replay_buffer
        if hasattr(buffer, "rewards") and buffer.size():
            self._note(buffer.rewards[: buffer.size()])

    def see_rewards(self, rewards: np.ndarray) -> bool:
        """Take note of the rewards of a step, as the training environment gives them.

        Returns:
            Whether they are all finite.
        """
        if self._normalizer is not None:
            # Normalised by other statistics later, when they are trained on.
            rewards = self._normalizer.get_original_reward()
        # In the words of Python, which is done with few numbers sooner; false for a NaN.
        if all(self._low <= reward <= self._high for reward in rewards.tolist()):
            return True
        return self._note(rewards)

    def _note(self, rewards: np.ndarray) -> bool:
        """Widen the range of the rewards; tell whether they are all finite."""
        low, high = float(rewards.min()), float(rewards.max())
        if math.isfinite(low) and math.isfinite(high):
            self._low, self._high = min(low, self._low), max(high, self._high)
            self._bound = self._compute_bound()
            return True
        self._odd = high if math.isfinite(low) else low
        return False

    def bound(self) -> float:
        """What ``|Q|`` may be; infinite before the first reward, and with hindsight (HER)."""
        # Statistics of rewards change at every step.
        return self._bound if self._normalizer is None else self._compute_bound()

    def _compute_bound(self) -> float:
        low, high = self._low, self._high
        # Hindsight computes rewards anew, when it samples, that no environment has given.
        if low > high or isinstance(self._probe.model.replay_buffer, HerReplayBuffer):
            return math.inf
        if self._normalizer is not None:
            low, high = map(float, self._normalizer.normalize_reward(np.array([low, high])))
        entropy = self._alpha * LOG_PROB * self._dims
        bound = value_bound(low, high, self._probe.gamma, entropy_min=-entropy, entropy_max=entropy)
        return ROOM * max(bound, LEAST_BOUND / ROOM)

    def check(self, q_abs_max: float = 0.0) -> str | None:
        """Look at what the last update recorded in the logger.

        Args:
            q_abs_max: Largest ``|Q|`` that is known besides; the actor's loss tells of a mean.

        Returns:
            Why training has diverged, or None.
        """
        if self._odd is not None:
            return f"a reward is {self._odd}"
        recorded = self._probe.model.logger.name_to_value
        alpha = float(recorded.get("train/ent_coef", 0.0))
        if alpha > self._alpha:
            self._alpha = alpha
            self._bound = self._compute_bound()
        bound = self.bound()
        limit = self._probe.loss_bound(bound)
        loss = float(recorded.get(self._probe.loss_key, 0.0))
        actor = abs(float(recorded.get("train/actor_loss", 0.0)))
        # Where gamma is 1 the bounds are infinite, and infinity is within them.
        within = loss <= limit and actor <= bound and q_abs_max <= bound
        if within and max(loss, actor, q_abs_max) < math.inf:
            return None
        # The comparisons of max() would lose a NaN.
        q = actor + q_abs_max if math.isnan(actor + q_abs_max) else max(actor, q_abs_max)
        return divergence(q_abs_max=q, q_bound=bound, loss=loss, loss_bound=limit)
