"""How far is the tracked sigma off, at every one of 10,000 updates?

Trains stock Stable-Baselines3 SAC and TD3 with an SN policy on Pendulum-v1 and on a MuJoCo task,
and looks at every effective weight, online and target, both critics, after every update. Its norm
is proven to be at most 1 + 1e-6 by a Cholesky factorisation in float64, and where that fails it is
taken by SVD in float64. That it is not below 1 needs no proof: ``uᵀ W v`` is a lower bound. The
networks are SB3's defaults, but for ``hidden``: there, three hidden layers, because with two it
would select the same layer as ``(-2,)``.

    python experiments/tracking/measure.py           # everything, about two hours on one core
    python experiments/tracking/measure.py --updates 300 --out quick

Each run is a file of errors by update, the largest over layers and critics; those that are there
are not repeated. ``table.py`` prints what the README shows, ``figure.py`` draws it.
"""

import argparse
import itertools
from pathlib import Path

import numpy as np
import torch
from stable_baselines3 import SAC, TD3
from stable_baselines3.common.callbacks import BaseCallback
from tqdm import tqdm

import snrl.aliases  # noqa: F401
from snrl.spectral import exact_sigma

ALGORITHMS = {"sac": SAC, "td3": TD3}
PROVEN = 1e-6
SELECTIONS = {"-2": (-2,), "hidden": "hidden"}


class Recorder(BaseCallback):
    """Records the largest relative error of online and target, or that it is at most ``PROVEN``."""

    def __init__(self, bar: tqdm) -> None:
        super().__init__()
        self.bar = bar
        self.errors: list[tuple[float, float]] = []

    @torch.no_grad()
    def _on_step(self) -> bool:
        if self.model._n_updates:
            self.errors.append((self._error("critic"), self._error("critic_target")))
            self.bar.update()
        return True

    def _error(self, name: str) -> float:
        layers = getattr(self.model, name).normalized
        weight = torch.stack([layer.effective_weight() for layer in layers]).double()
        identity = torch.eye(weight.shape[-2], dtype=weight.dtype)
        # Positive definite if and only if every singular value is below 1 + PROVEN.
        rest = (1 + PROVEN) ** 2 * identity - weight @ weight.mT
        if not torch.linalg.cholesky_ex(rest).info.any():
            return PROVEN
        return (exact_sigma(weight) - 1.0).abs().max().item()


def run(algorithm: str, env: str, lr: float, selection: str, updates: int, seed: int) -> np.ndarray:
    """Train once; errors of shape ``(updates, 2)``, online and target."""
    policy_kwargs: dict = {"sn_layers": SELECTIONS[selection]}
    if selection == "hidden":
        policy_kwargs["net_arch"] = [256, 256, 256]
    model = ALGORITHMS[algorithm](
        "SNMlpPolicy", env, learning_rate=lr, seed=seed, policy_kwargs=policy_kwargs
    )
    with tqdm(total=updates, desc=f"{algorithm} {env} {lr} {selection}", unit="update") as bar:
        recorder = Recorder(bar)
        # The callback of a step sees the update that followed the step before.
        model.learn(model.learning_starts + updates + 1, callback=recorder)
    assert len(recorder.errors) == updates
    return np.array(recorder.errors, dtype=np.float32)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--updates", type=int, default=10_000, help="per run")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--algorithms", nargs="+", default=list(ALGORITHMS), choices=ALGORITHMS)
    parser.add_argument("--envs", nargs="+", default=["Pendulum-v1", "Hopper-v5"])
    parser.add_argument("--learning-rates", nargs="+", type=float, default=[1e-3, 3e-4])
    parser.add_argument("--layers", nargs="+", default=list(SELECTIONS), choices=SELECTIONS)
    parser.add_argument("--out", type=Path, default=Path(__file__).with_name("results"))
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    plan = itertools.product(args.layers, args.learning_rates, args.envs, args.algorithms)
    for selection, lr, env, algorithm in plan:
        path = args.out / f"{algorithm}_{env}_{lr:g}_{selection}_{args.seed}.npz"
        if path.exists():
            continue
        errors = run(algorithm, env, lr, selection, args.updates, args.seed)
        part = path.with_suffix(".part")
        with part.open("wb") as file:
            np.savez_compressed(file, online=errors[:, 0], target=errors[:, 1])
        part.replace(path)


if __name__ == "__main__":
    main()
