"""How far is sigma off? Estimators that follow the same weights through real training.

Trains stock Stable-Baselines3 SAC and TD3 on Pendulum-v1 with an SN policy (three hidden layers of
256, the hidden ones normalised) and lets every estimator follow the raw weights, online and target,
one call per update, each from its own warm vectors. The truth is the SVD in float64.

    python experiments/estimators/measure.py               # the README has --steps 1000
    python experiments/estimators/measure.py --steps 200 --out quick.csv

The cost is the median time of one call on the four 256×256 matrices of one network (two critics,
two layers), as a multiple of one power iteration; all estimators take turns in the same process.
"""

import argparse
import csv
import time
from collections import defaultdict
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from stable_baselines3 import SAC, TD3
from stable_baselines3.common.callbacks import BaseCallback
from torch import Tensor
from tqdm import tqdm

import snrl.aliases  # noqa: F401
from snrl.spectral import exact_sigma, subspace_iteration
from snrl.spectral.iteration import leading_vectors, sigma_estimate, track

NEVER = torch.inf  # a growth that no step reaches: the number of steps stays fixed


def by_iteration(weight: Tensor, state: Any, steps: int) -> tuple[Tensor, Any]:
    _, sigma, block = subspace_iteration(weight, state, steps)
    return sigma, block


def by_tracking(weight: Tensor, state: Any, rtol: float | None) -> tuple[Tensor, Any]:
    state = track(weight, state) if rtol is None else track(weight, state, rtol=rtol)
    return sigma_estimate(weight, state.u, state.v), state


ESTIMATORS: dict[str, tuple[Callable[[Tensor, Any], tuple[Tensor, Any]], int, bool]] = {
    **{
        f"power iteration, {steps} step{'s' * (steps > 1)}": (
            partial(by_iteration, steps=steps),
            1,
            True,
        )
        for steps in (1, 2, 5, 10)
    },
    **{
        f"subspace iteration, block of {size}, 1 step": (partial(by_iteration, steps=1), size, True)
        for size in (2, 4, 8)
    },
    "with directions, block of 1, 1 step": (partial(by_tracking, rtol=NEVER), 1, False),
    "with directions, block of 4, 1 step": (partial(by_tracking, rtol=NEVER), 4, False),
    "with directions, block of 4, steps as needed (ours)": (
        partial(by_tracking, rtol=None),
        4,
        False,
    ),
}


class Follower(BaseCallback):
    """Runs every estimator on the weights after every update."""

    def __init__(self, layers: dict[str, list[torch.nn.Linear]], bar: tqdm) -> None:
        super().__init__()
        self.layers = layers
        self.bar = bar
        self.states: dict[tuple[str, str], Any] = {}
        self.errors: dict[tuple[str, str], list[np.ndarray]] = defaultdict(list)
        self.seconds: dict[str, list[float]] = defaultdict(list)

    def _on_training_start(self) -> None:
        for network, layers in self.layers.items():
            weight = torch.stack([layer.weight.detach() for layer in layers])
            for name, (_, size, only_block) in ESTIMATORS.items():
                vectors = leading_vectors(weight, size)
                self.states[network, name] = vectors.block if only_block else vectors

    @torch.no_grad()
    def _on_step(self) -> bool:
        if self.model._n_updates == 0:
            return True
        self.bar.update()
        for network, layers in self.layers.items():
            weight = torch.stack([layer.weight for layer in layers])
            truth = exact_sigma(weight)
            for name, (estimate, _, _) in ESTIMATORS.items():
                start = time.perf_counter()
                sigma, state = estimate(weight, self.states[network, name])
                self.seconds[name].append(time.perf_counter() - start)
                self.states[network, name] = state
                self.errors[network, name].append((1 - sigma / truth).numpy())
        return True


def run(algorithm: str, learning_rate: float, steps: int, seed: int) -> list[dict[str, Any]]:
    model = {"sac": SAC, "td3": TD3}[algorithm](
        "SNMlpPolicy",
        "Pendulum-v1",
        learning_rate=learning_rate,
        seed=seed,
        policy_kwargs={"net_arch": [256, 256, 256], "sn_layers": "hidden"},
    )
    layers = {"online": model.critic.normalized, "target": model.critic_target.normalized}
    with tqdm(total=steps, desc=f"{algorithm} {learning_rate}", unit="update") as bar:
        follower = Follower(layers, bar)
        model.learn(model.learning_starts + steps + 1, callback=follower)
    unit = np.median(follower.seconds["power iteration, 1 step"])
    rows = []
    for (network, name), history in follower.errors.items():
        error = np.array(history).clip(min=0)  # rounding may put an estimate above the truth
        late = error[len(error) // 4 :]
        rows.append(
            {
                "algorithm": algorithm,
                "learning_rate": learning_rate,
                "seed": seed,
                "updates": len(error),
                "network": network,
                "estimator": name,
                "error_max_early": error[: len(error) // 4].max(),
                "error_median_late": np.median(late),
                "error_99_late": np.quantile(late, 0.99),
                "error_max_late": late.max(),
                "cost": np.median(follower.seconds[name]) / unit,
            }
        )
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=2000, help="updates per run")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path(__file__).with_name("results.csv"))
    args = parser.parse_args()
    rows = []
    for algorithm, learning_rate in (("sac", 3e-4), ("td3", 1e-3)):
        rows += run(algorithm, learning_rate, args.steps, args.seed)
        with args.out.open("w", newline="") as file:
            writer = csv.DictWriter(file, list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)


if __name__ == "__main__":
    main()
