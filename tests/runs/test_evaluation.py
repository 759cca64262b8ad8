import json
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from stable_baselines3 import SAC
from stable_baselines3.common.callbacks import EvalCallback
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.logger import configure

from snrl.runs.envs import eval_seed, make_envs
from snrl.runs.result import RunResult


class GlobalNoise(gym.ObservationWrapper[Any, Any, Any]):
    """Pendulum-v1 as careless tasks are: noise from NumPy's global generator."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(gym.make("Pendulum-v1", **kwargs))

    def observation(self, observation: Any) -> Any:
        return np.float32(observation + 1e-3 * np.random.normal())


gym.register("GlobalNoise-v0", GlobalNoise, disable_env_checker=True)


def weights(result: RunResult) -> dict[str, torch.Tensor]:
    return dict(SAC.load(result.folder.model, device="cpu").policy.state_dict())


def test_training_is_the_same_for_any_eval_freq(runs: Any) -> None:
    often, never = (
        runs.train(
            str(freq),
            runs.config(
                env="GlobalNoise-v0",
                total_timesteps=300,
                learning_starts=230,
                **{"eval_freq": freq},
            ),
        )
        for freq in (70, 300)
    )
    assert len(np.load(often.folder.evaluations)["timesteps"]) == 5
    assert len(np.load(never.folder.evaluations)["timesteps"]) == 1
    first, second = weights(often), weights(never)
    assert all(torch.equal(first[key], second[key]) for key in first | second)


def test_the_file_is_sb3s(shared_run: RunResult, tmp_path: Path) -> None:
    """SB3's own callback, on the same task with the same settings, writes the same keys."""
    config = shared_run.config
    env, eval_env = make_envs(config)
    model = SAC("MlpPolicy", env, learning_starts=10_000, buffer_size=1000, device="cpu")
    model.set_logger(configure(str(tmp_path), []))
    sb3 = EvalCallback(
        eval_env,
        n_eval_episodes=config.n_eval_episodes,
        eval_freq=config.eval_freq,
        log_path=str(tmp_path),
        verbose=0,
    )
    model.learn(config.total_timesteps, sb3)
    theirs = np.load(tmp_path / "evaluations.npz")
    ours = np.load(shared_run.folder.evaluations)
    assert set(ours) == set(theirs)
    # The evaluation at the end, which is no multiple of eval_freq, is what SB3 leaves out.
    assert ours["timesteps"].tolist() == [*theirs["timesteps"], config.total_timesteps]
    for key in ("results", "ep_lengths"):
        assert ours[key].dtype == theirs[key].dtype
        assert ours[key].shape == (len(theirs[key]) + 1, *theirs[key].shape[1:])


def test_the_last_evaluation_is_of_the_saved_model(shared_run: RunResult) -> None:
    assert shared_run.evaluation is not None
    _, env = make_envs(shared_run.config)
    env.seed(eval_seed(shared_run.config))
    model = SAC.load(shared_run.folder.model, device="cpu")
    returns, _ = evaluate_policy(
        model, env, shared_run.config.n_eval_episodes, return_episode_rewards=True
    )
    # Actions of the fast way are those of the policy's modules to rounding.
    assert returns == pytest.approx(shared_run.evaluation.returns, rel=1e-6)


def test_the_best_model_is_that_of_the_best_evaluation(shared_run: RunResult) -> None:
    results = np.load(shared_run.folder.evaluations)["results"].mean(axis=1)
    timesteps = np.load(shared_run.folder.evaluations)["timesteps"]
    best = SAC.load(shared_run.folder.best_model, device="cpu")
    assert best.num_timesteps == timesteps[results.argmax()]


def test_the_end_is_evaluated_once(runs: Any) -> None:
    config = runs.config(total_timesteps=400, eval_freq=200, n_eval_episodes=1)
    result = runs.train("run", config, tracking=None)
    assert np.load(result.folder.evaluations)["timesteps"].tolist() == [200, 400]


@pytest.mark.parametrize(("n_envs", "expected"), [(3, [102, 201, 300]), (4, [100, 200, 300])])
def test_eval_freq_counts_environment_steps(runs: Any, n_envs: int, expected: list[int]) -> None:
    config = runs.config(total_timesteps=300, eval_freq=100, n_eval_episodes=1, n_envs=n_envs)
    result = runs.train("run", config)
    assert np.load(result.folder.evaluations)["timesteps"].tolist() == expected


def test_success_is_logged_where_the_task_tells_it(runs: Any) -> None:
    class Succeeding(gym.Wrapper[Any, Any, Any, Any]):
        def __init__(self, **kwargs: Any) -> None:
            super().__init__(gym.make("Pendulum-v1", **kwargs))

        def step(self, action: Any) -> Any:
            observation, reward, terminated, truncated, info = self.env.step(action)
            return observation, reward, terminated, truncated, {**info, "is_success": True}

    gym.register("Succeeding-v0", Succeeding, disable_env_checker=True)
    result = runs.train("run", runs.config(env="Succeeding-v0", total_timesteps=10))
    assert np.load(result.folder.evaluations)["successes"].tolist() == [[True, True]]
    assert '"eval/success_rate": 1.0' in result.folder.progress.read_text()


def test_the_certificate_is_logged_and_true(runs: Any) -> None:
    for sn in (True, False):
        result = runs.train(f"run-{sn}", runs.config(sn=sn, total_timesteps=300))
        last = [json.loads(line) for line in result.folder.progress.read_text().splitlines()][-1]
        assert ("sn/sigma_error" in last) == sn
        if sn:
            assert 0 <= last["sn/sigma_error"] <= 1e-3
        model = SAC.load(result.folder.model, device="cpu")
        observation = (4 * torch.randn(2000, 3)).requires_grad_()
        action = torch.empty(2000, 1).uniform_(-1, 1).requires_grad_()
        for values in model.critic(observation, action):
            by_state, by_action = torch.autograd.grad(values.sum(), (observation, action))
            both = torch.cat((by_state, by_action), dim=1)
            assert by_state.norm(dim=1).max() <= last["sn/lipschitz_bound_state"]
            assert by_action.norm(dim=1).max() <= last["sn/lipschitz_bound_action"]
            assert both.norm(dim=1).max() <= last["sn/lipschitz_bound"]
        assert last["sn/lipschitz_bound"] <= np.hypot(
            last["sn/lipschitz_bound_state"], last["sn/lipschitz_bound_action"]
        )


def lines(result: RunResult) -> list[dict[str, Any]]:
    return [json.loads(line) for line in result.folder.progress.read_text().splitlines()]


def test_values_are_in_the_line_of_the_evaluation(shared_run: RunResult) -> None:
    measured = [line for line in lines(shared_run) if "values/bias_mean" in line]
    assert [line["time/total_timesteps"] for line in measured] == [400, 800, 850]
    for line in measured:
        assert "eval/mean_reward" in line
        assert np.isfinite(line["values/bias_mean"])
        assert 0 < line["values/time_share"] < 1
    assert "values/churn" in measured[-1]
    # The stability of the return is that of the evaluations so far.
    means = np.load(shared_run.folder.evaluations)["results"].mean(axis=1)
    for count, line in enumerate(measured, start=1):
        best = np.maximum.accumulate(means[:count])
        assert line["values/return_drawdown"] == (best - means[:count]).max()
        fallen = means[:count] < best - 0.2 * np.abs(best)
        assert line["values/return_fallen_share"] == fallen.mean()


def test_training_is_the_same_for_any_set_of_measures(runs: Any) -> None:
    results = {
        name: runs.train(
            name,
            runs.config(
                env="GlobalNoise-v0", total_timesteps=260, learning_starts=230, values=name
            ),
        )
        for name in ("off", "light", "full")
    }
    first = weights(results["off"])
    for name, result in results.items():
        assert all(torch.equal(first[key], value) for key, value in weights(result).items())
        assert result.evaluation.returns == results["off"].evaluation.returns
        logged = {key for line in lines(result) for key in line if key.startswith("values/")}
        assert bool(logged) == (name != "off")
        assert ("values/curvature" in logged) == (name == "full")
