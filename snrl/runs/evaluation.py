"""Deterministic evaluation of a model in its own environment, apart from training."""

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.off_policy_algorithm import OffPolicyAlgorithm
from stable_baselines3.common.vec_env import VecEnv

from snrl.critics import SpectralPolicy, critic_lipschitz, sigma_max
from snrl.critics.access import online_critic, target_critic
from snrl.runs.config import RunConfig
from snrl.runs.envs import eval_seed
from snrl.runs.folder import RunFolder, written_aside
from snrl.runs.interrupt import StopRequest
from snrl.values.generators import generators_kept
from snrl.values.measures.stability import return_stability
from snrl.values.moments import Moments


@dataclass(frozen=True)
class Evaluation:
    """What one evaluation found.

    Attributes:
        timesteps: Environment steps of training before it.
        returns: Return of each episode.
        ep_lengths: Length of each episode.
        sigma_online: Largest singular value over the critic's effective weights.
        sigma_target: The same of the target critic; None without one (CrossQ).
    """

    timesteps: int
    returns: list[float]
    ep_lengths: list[int]
    sigma_online: float
    sigma_target: float | None

    @property
    def return_mean(self) -> float:
        """Mean return."""
        return float(np.mean(self.returns))

    @property
    def return_std(self) -> float:
        """Standard deviation of the return over the episodes."""
        return float(np.std(self.returns))


class _AbandonedError(Exception):
    """The run was asked to stop in the middle of an evaluation."""


class Evaluator(BaseCallback):
    """Evaluates every ``eval_freq`` steps, with SB3's logger keys and ``evaluations.npz``.

    It differs from SB3's ``EvalCallback`` in that ``eval_freq`` counts environment steps whatever
    the number of environments, every evaluation has the same start states, files are written
    whole, and training is the same with it as without it. The last evaluation is left to the
    caller, so that it sees the model after its last update.

    Args:
        config: The run.
        env: The environment to evaluate in.
        folder: Takes ``evaluations.npz`` and ``best_model.zip``.
        stop: When it is overdue, a running evaluation is abandoned.
    """

    model: OffPolicyAlgorithm

    def __init__(
        self, config: RunConfig, env: VecEnv, folder: RunFolder, stop: StopRequest
    ) -> None:
        """Keep what the evaluations need."""
        super().__init__()
        self._config = config
        self.env = env
        self._folder = folder
        self._stop = stop
        self._moments = Moments(config.eval_freq, config.total_timesteps)
        self._history: list[Evaluation] = []
        self._successes: list[list[bool]] = []
        self._best = -np.inf

    @property
    def latest(self) -> Evaluation | None:
        """The latest evaluation, if there was one."""
        return self._history[-1] if self._history else None

    def state_dict(self) -> dict[str, Any]:
        """The evaluations so far, for a checkpoint."""
        return {
            "history": [asdict(evaluation) for evaluation in self._history],
            "successes": self._successes,
            "best": self._best,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from the evaluations of :meth:`state_dict`, and store no others."""
        self._history = [Evaluation(**evaluation) for evaluation in state["history"]]
        self._successes, self._best = state["successes"], state["best"]
        if self._history:
            self._store()

    def _on_step(self) -> bool:
        if self._moments.is_due(self.num_timesteps, self.training_env.num_envs):
            self.evaluate()
        return True

    def evaluate(self) -> Evaluation | None:
        """Evaluate the model as it is, log and store what comes out, and keep the best model.

        Returns:
            The evaluation, or None if the run was asked to stop meanwhile.
        """
        successes: list[bool] = []

        def watch(local: dict[str, Any], _: dict[str, Any]) -> None:
            if self._stop.is_overdue:
                raise _AbandonedError
            if local["done"] and "is_success" in local["info"]:
                successes.append(bool(local["info"]["is_success"]))

        self.env.seed(eval_seed(self._config))
        try:
            with generators_kept(self.model.device):
                returns, lengths = evaluate_policy(
                    self.model,
                    self.env,
                    self._config.n_eval_episodes,
                    return_episode_rewards=True,
                    callback=watch,
                )
        except _AbandonedError:
            return None
        assert isinstance(returns, list)
        assert isinstance(lengths, list)
        target = target_critic(self.model)
        evaluation = Evaluation(
            self.model.num_timesteps,
            returns,
            lengths,
            sigma_max(online_critic(self.model)),
            None if target is None else sigma_max(target),
        )
        self._history.append(evaluation)
        if successes:
            self._successes.append(successes)
        self._log(evaluation, successes)
        self._store()
        if evaluation.return_mean > self._best:
            self._best = evaluation.return_mean
            with written_aside(self._folder.best_model) as aside:
                self.model.save(aside)
        return evaluation

    def _log(self, evaluation: Evaluation, successes: list[bool]) -> None:
        self.logger.record("eval/mean_reward", evaluation.return_mean)
        self.logger.record("eval/mean_ep_length", float(np.mean(evaluation.ep_lengths)))
        if successes:
            self.logger.record("eval/success_rate", float(np.mean(successes)))
        sigmas = (evaluation.sigma_online, evaluation.sigma_target)
        self.logger.record("sn/sigma_max", float(np.max([x for x in sigmas if x is not None])))
        self._log_certificate()
        if self._config.values != "off":
            self._log_stability()
        self.logger.record("time/total_timesteps", evaluation.timesteps, exclude="tensorboard")
        self.logger.dump(evaluation.timesteps)

    def _log_certificate(self) -> None:
        """Log how far off sigma can be, and how steep the values can be: see the README."""
        policy = self.model.policy
        if isinstance(policy, SpectralPolicy) and policy.spectral is not None:
            self.logger.record("sn/sigma_error", policy.spectral.certify().error)
        bounds = critic_lipschitz(online_critic(self.model))
        if "state_action" in bounds:
            self.logger.record("sn/lipschitz_bound", bounds["state_action"])
        for name in ("state", "action"):
            if name in bounds:
                self.logger.record(f"sn/lipschitz_bound_{name}", bounds[name])

    def _log_stability(self) -> None:
        """Log how steadily the return has risen: see the README."""
        stability = return_stability([past.return_mean for past in self._history])
        self.logger.record("values/return_drawdown", stability.drawdown)
        self.logger.record("values/return_fallen_share", stability.fallen_share)

    def _store(self) -> None:
        arrays: dict[str, Any] = {
            "timesteps": [evaluation.timesteps for evaluation in self._history],
            "results": [evaluation.returns for evaluation in self._history],
            "ep_lengths": [evaluation.ep_lengths for evaluation in self._history],
        }
        if self._successes:
            arrays["successes"] = self._successes
        with written_aside(self._folder.evaluations) as aside:
            np.savez(aside, **arrays)
