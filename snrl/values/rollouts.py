"""Monte-Carlo returns of the current policy, complete enough to judge values by.

A return is cut where an episode meets a time limit, or where watching it any longer costs too
much. Two things keep that from biasing the error of the values:

- the copy's own time limit is moved ``tail`` steps away, and only states before the nominal limit
  are judged, so that what a return lacks has a weight of at most ``gamma**tail``;
- what it lacks is completed by the critic's own value of the state at the cut, less the critic's
  mean error ``b``. That mean error is the one that is sought: with ``e`` the error against the
  return completed by the value alone and ``w`` the weight at the cut, it solves
  ``mean(e) = b (1 - mean(w))``.
  This is exact if the critic errs at the cuts as it does at the states that are judged, and off by
  at most ``mean(w)`` times the difference otherwise.

Where the training environment ends its episodes at the limit in earnest
(``handle_timeout_termination=False``), nothing follows, and nothing is completed.
"""

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from stable_baselines3.common.vec_env import VecEnv
from torch import Tensor

from snrl.values.environment import TimeLimit
from snrl.values.measures.returns import discounted_returns, entropy_terms, tail_length
from snrl.values.probe import Observations, Probe, Transitions

# Steps beyond which no tail is followed, however near to 1 the discount factor is.
MAX_TAIL = 1000
# Returns of which more than this is the critic's own value say nothing about the critic.
MAX_WEIGHT = 0.95


@dataclass(frozen=True)
class Rollouts:
    """States along on-policy episodes, with what followed them.

    Attributes:
        transitions: Those that start in the states, ``n`` of them.
        returns: Discounted sum of what followed, entropy included where the algorithm values it,
            as far as it was seen, then completed by the critic's value; shape ``(n,)``, float64.
        weights: Weight of the completion in each return, 0 where the episode ended, ``(n,)``.
        episodes: Number of the episode that each state is of, ``(n,)``.
        reward_range: Smallest and largest reward, in the critic's units.
    """

    transitions: Transitions
    returns: np.ndarray
    weights: np.ndarray
    episodes: np.ndarray
    reward_range: tuple[float, float]

    def corrected(self, q: np.ndarray) -> np.ndarray | None:
        """Take the critic's mean error out of what completes the returns.

        Args:
            q: The critic's values at the states, shape ``(n,)``.

        Returns:
            The returns, shape ``(n,)``; None where too little of them was seen.
        """
        weight = self.weights.mean()
        if weight > MAX_WEIGHT:
            return None
        bias = (q - self.returns).mean() / (1 - weight)
        return np.asarray(self.returns - self.weights * bias)


class _Steps(NamedTuple):
    """What all environments went through, arrays of shape ``(steps, n_envs)``."""

    rewards: np.ndarray
    log_probs: np.ndarray
    dones: np.ndarray
    cuts: np.ndarray
    ages: np.ndarray


class Roller:
    """Lets a model's policy act in the measures' environment and follows the returns.

    Args:
        probe: The model.
        env: The measures' own environment.
        steps: Steps of each environment whose states are judged; fewer where an episode is shorter
            than that by its time limit.
        states: At least so many states are kept, evenly spaced, and fewer than twice as many; all,
            where there are fewer.
        tolerance: Weight at most of what a return lacks.
    """

    def __init__(
        self, probe: Probe, env: VecEnv, steps: int, states: int, tolerance: float
    ) -> None:
        """Choose the steps."""
        self._probe = probe
        self._env = env
        buffer: Any = probe.model.replay_buffer
        self._limit_ends = not getattr(buffer, "handle_timeout_termination", True)
        fades = probe.gamma < 1
        self.tail = min(tail_length(probe.gamma, tolerance), MAX_TAIL) if fades else MAX_TAIL
        self._limit = TimeLimit(env)
        self._nominal = self._limit.nominal
        self.steps = steps if self._nominal is None else min(steps, self._nominal)
        self._states = states

    @torch.no_grad()
    def visit(self, count: int) -> Transitions:
        """Take some transitions from the beginnings of episodes, as many as asked for or more."""
        kept: list[Transitions] = []
        self._run(kept, [], -(-count // self._env.num_envs), 0)
        return _concatenate(kept)

    @torch.no_grad()
    def roll(self) -> Rollouts:
        """Run the episodes. Draws from the global generators; the model stays as it is."""
        kept: list[Transitions] = []
        places: list[tuple[int, int]] = []
        with self._limit.moved(0 if self._limit_ends else self.tail):
            steps, cut_values = self._run(kept, places, self.steps, self.tail)
        returns, weights, episodes = self._follow(steps, cut_values)
        transitions = _concatenate(kept)
        at = tuple(np.array(places).T)
        chosen = self._early_enough(steps)[at]
        low, high = steps.rewards.min(), steps.rewards.max()
        return Rollouts(
            transitions if chosen.all() else select(transitions, np.flatnonzero(chosen)),
            returns[at][chosen],
            weights[at][chosen],
            episodes[at][chosen],
            (float(low), float(high)),
        )

    def _run(
        self, kept: list[Transitions], places: list[tuple[int, int]], judged: int, tail: int
    ) -> tuple[_Steps, np.ndarray]:
        """Step the environments; keep transitions, and the steps and environments they are of."""
        probe, env = self._probe, self._env
        length, n = judged + tail, env.num_envs
        stride = max(1, judged * n // self._states)
        rewards, log_probs, cut_values = (np.zeros((length, n)) for _ in range(3))
        dones, cuts = (np.zeros((length, n), dtype=bool) for _ in range(2))
        ages = np.zeros((length, n), dtype=int)
        raw = env.reset()
        observations = self._seen(raw)
        for t in range(length):
            actions, log_prob = probe.act(observations)
            raw, reward, done, infos = env.step(probe.to_env(actions))
            rewards[t] = self._reward(reward)
            log_probs[t] = log_prob.cpu().numpy()
            if done.any():
                truncated = np.array([info.get("TimeLimit.truncated", False) for info in infos])
                dones[t] = done & (~truncated | self._limit_ends)
                cuts[t] = done & ~dones[t]
            if t == length - 1:
                cuts[t] |= ~done
            else:
                ages[t + 1] = np.where(done, 0, ages[t] + 1)
            keep = t < judged and t % stride == 0
            before, observations = observations, self._seen(raw)
            if keep or cuts[t].any():
                following = self._seen(_with_terminal(raw, done, infos))
                if cuts[t].any():
                    cut_values[t] = self._values(following)
                if keep:
                    kept.append(self._transitions(before, actions, following, dones[t], rewards[t]))
                    places.extend((t, e) for e in range(n))
        return _Steps(rewards, log_probs, dones, cuts, ages), cut_values

    def _follow(
        self, steps: _Steps, cut_values: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Sum up what followed each step; the weight of its completion; its episode's number."""
        gamma = self._probe.gamma
        returns, weights = (np.zeros_like(steps.rewards) for _ in range(2))
        episodes = np.zeros(steps.rewards.shape, dtype=int)
        alpha = self._probe.entropy_coefficient
        count = 0
        for e in range(steps.rewards.shape[1]):
            ends = np.flatnonzero(steps.dones[:, e] | steps.cuts[:, e])
            for start, end in zip([0, *(ends[:-1] + 1)], ends, strict=True):
                part = slice(start, end + 1)
                is_cut = steps.cuts[end, e]
                final = cut_values[end, e] if is_cut else 0.0
                entropies = entropy_terms(steps.log_probs[part, e], alpha, gamma)
                soft = steps.rewards[part, e] + entropies
                returns[part, e] = discounted_returns(soft, gamma, final=final)
                if is_cut:
                    weights[part, e] = gamma ** np.arange(end + 1 - start, 0, -1.0)
                episodes[part, e] = count
                count += 1
        return returns, weights, episodes

    def _early_enough(self, steps: _Steps) -> np.ndarray:
        """Choose states by their age alone, so that no choice knows what followed.

        All, unless the environment itself cuts its episodes: then those a tail before the shortest
        cut, or in its first half.
        """
        inner = steps.cuts[:-1] & (steps.ages[:-1] + 1 < (self._nominal or np.inf))
        if not inner.any():
            return np.ones_like(steps.cuts)
        shortest = int(steps.ages[:-1][inner].min()) + 1
        return steps.ages < max(shortest - self.tail, (shortest + 1) // 2)

    def _seen(self, raw: Any) -> Observations:
        normalizer = self._probe.model.get_vec_normalize_env()
        observations = raw if normalizer is None else normalizer.normalize_obs(raw)
        tensor: Observations = self._probe.policy.obs_to_tensor(observations)[0]
        return tensor

    def _reward(self, reward: np.ndarray) -> np.ndarray:
        normalizer = self._probe.model.get_vec_normalize_env()
        return reward if normalizer is None else normalizer.normalize_reward(reward)

    def _values(self, observations: Observations) -> np.ndarray:
        """What the critic expects of states, the entropy of the first action included."""
        actions, log_prob = self._probe.act(observations)
        values = self._probe.q(observations, actions)
        values = values - self._probe.entropy_coefficient * log_prob
        return values.double().cpu().numpy()

    def _transitions(
        self,
        observations: Observations,
        actions: Tensor,
        following: Observations,
        dones: np.ndarray,
        rewards: np.ndarray,
    ) -> Transitions:
        reward = torch.as_tensor(rewards, dtype=actions.dtype, device=actions.device)
        done = torch.as_tensor(dones, device=actions.device).to(actions.dtype)
        discounts = torch.full_like(reward, self._probe.gamma)
        return Transitions(observations, actions, following, done, reward, discounts)


def select(batch: Transitions, index: np.ndarray) -> Transitions:
    """Take some transitions of a batch, by their numbers."""
    at = torch.as_tensor(index, device=batch.actions.device)

    def take(part: Observations) -> Any:
        return {k: v[at] for k, v in part.items()} if isinstance(part, dict) else part[at]

    return Transitions(*map(take, batch))


def _concatenate(batches: list[Transitions]) -> Transitions:
    def join(parts: Any) -> Any:
        if isinstance(parts[0], dict):
            return {key: torch.cat([part[key] for part in parts]) for key in parts[0]}
        return torch.cat(parts)

    return Transitions(*(join(parts) for parts in zip(*batches, strict=True)))


def _with_terminal(raw: Any, done: np.ndarray, infos: list[dict[str, Any]]) -> Any:
    """The observations that were reached, where those of ended episodes are of the next one."""
    if not done.any():
        return raw
    raw = {k: v.copy() for k, v in raw.items()} if isinstance(raw, dict) else raw.copy()
    for e in np.flatnonzero(done):
        last = infos[e]["terminal_observation"]
        if isinstance(raw, dict):
            for key, value in last.items():
                raw[key][e] = value
        else:
            raw[e] = last
    return raw
