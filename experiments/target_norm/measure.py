"""Is the target normalised? The largest singular value of every effective weight, step by step.

Trains stock Stable-Baselines3 SAC and TD3 on Pendulum-v1 with an SN policy, and with torch's
``spectral_norm`` put on the same layers by hand, and takes the exact singular values (SVD in
float64) of all effective normalised weights, online and target, both critics, after every step.
The networks are SB3's defaults, but for ``hidden``: there, three hidden layers, because with two
it would select the same layer as ``(-2,)``.

    python experiments/target_norm/measure.py            # everything, about two hours on 2 cores
    python experiments/target_norm/measure.py --steps 300 --out quick.csv

Runs that are in the output file already are not repeated. ``table.py`` prints what the README
shows.
"""

import argparse
import copy
import itertools
import sys
from pathlib import Path

import numpy as np
import torch
from stable_baselines3 import SAC, TD3
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.policies import ContinuousCritic
from torch import nn
from torch.nn.utils.parametrizations import spectral_norm
from tqdm import tqdm

import snrl.aliases  # noqa: F401
from snrl.spectral import SpectralLayer, exact_sigma
from snrl.spectral.selection import select_layers

sys.path.insert(0, str(Path(__file__).parents[1]))
from records import Records

ALGORITHMS = {"sac": SAC, "td3": TD3}
SELECTIONS = {"-2": (-2,), "hidden": "hidden", "all": "all"}
FIELDS = [
    "method", "algorithm", "learning_rate", "layers", "steps", "seed", "network", "layer",
    "error_max", "error_max_after_1000", "error_median_after_1000", "sigma_min", "sigma_max",
]  # fmt: skip
WARMUP = 100  # SB3's learning_starts: no update before it


def normalized_layers(critic: ContinuousCritic, method: str, selection: str) -> list[nn.Linear]:
    """List the normalised layers, the same layer of all critics side by side."""
    heads = [[x for x in net if isinstance(x, nn.Linear)] for net in critic.q_networks]
    positions = select_layers(SELECTIONS[selection], len(heads[0]))
    layers = [head[position] for position in positions for head in heads]
    if method == "snrl":
        assert [x for x in critic.modules() if isinstance(x, SpectralLayer)] != []
        assert all(isinstance(layer, SpectralLayer) for layer in layers)
    return layers


def effective_weight(layer: nn.Linear, online: bool) -> torch.Tensor:
    """Compute the weight that the network's next forward in ``train()`` multiplies by."""
    if isinstance(layer, SpectralLayer):
        return layer.effective_weight()
    # torch's parametrization iterates in every forward of a network in training mode, as the
    # online critic's are; SB3 keeps the target in evaluation mode. On a copy, to disturb nothing.
    return copy.deepcopy(layer).train(online).weight


class Recorder(BaseCallback):
    """Records the exact sigma of each effective weight after every update."""

    def __init__(self, layers: dict[str, list[nn.Linear]]) -> None:
        super().__init__()
        self.layers = layers
        self.sigmas: dict[str, list[list[float]]] = {name: [] for name in layers}

    def _on_step(self) -> bool:
        if self.model._n_updates == 0:
            return True
        with torch.no_grad():
            for name, layers in self.layers.items():
                weights = [effective_weight(layer, name == "online") for layer in layers]
                self.sigmas[name].append([exact_sigma(weight).item() for weight in weights])
        return True


def run(
    method: str, algorithm: str, lr: float, selection: str, steps: int, seed: int
) -> list[dict]:
    """Train once; one row of results for each network and layer."""
    policy_kwargs: dict = {"net_arch": [256, 256, 256]} if selection == "hidden" else {}
    if method == "snrl":
        policy_kwargs["sn_layers"] = SELECTIONS[selection]
    model = ALGORITHMS[algorithm](
        "SNMlpPolicy" if method == "snrl" else "MlpPolicy", "Pendulum-v1",
        learning_rate=lr, seed=seed, policy_kwargs=policy_kwargs,
    )  # fmt: skip
    networks = {"online": model.critic, "target": model.critic_target}
    layers = {name: normalized_layers(c, method, selection) for name, c in networks.items()}
    if method == "torch":
        for layer in itertools.chain(*layers.values()):
            spectral_norm(layer)
        # The parametrised weights are new entries of the modules: the optimiser must hold them.
        model.critic.optimizer = torch.optim.Adam(model.critic.parameters(), lr=lr)
        model.critic_target.load_state_dict(model.critic.state_dict())
    recorder = Recorder(layers)
    # The callback of a step sees the update that followed the step before.
    model.learn(steps + WARMUP + 1, callback=recorder)
    assert len(recorder.sigmas["target"]) == steps
    rows = []
    for name, sigmas in recorder.sigmas.items():
        # (updates, layers · critics) to (updates, layers, critics)
        history = np.array(sigmas).reshape(len(sigmas), -1, model.critic.n_critics)
        for position in range(history.shape[1]):
            sigma = history[:, position]
            error = np.abs(sigma - 1.0).max(axis=1)
            late = error[1000:] if len(error) > 1000 else np.full(1, np.nan)
            rows.append({
                "method": method, "algorithm": algorithm, "learning_rate": lr,
                "layers": selection, "steps": steps, "seed": seed, "network": name,
                "layer": position, "error_max": error.max(), "error_max_after_1000": late.max(),
                "error_median_after_1000": np.median(late), "sigma_min": sigma.min(),
                "sigma_max": sigma.max(),
            })  # fmt: skip
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=4000, help="updates per run")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--methods", nargs="+", default=["snrl", "torch"])
    parser.add_argument("--algorithms", nargs="+", default=list(ALGORITHMS), choices=ALGORITHMS)
    parser.add_argument("--learning-rates", nargs="+", type=float, default=[3e-4, 1e-3])
    parser.add_argument("--layers", nargs="+", default=list(SELECTIONS), choices=SELECTIONS)
    parser.add_argument("--out", type=Path, default=Path(__file__).with_name("results.csv"))
    args = parser.parse_args()
    records = Records(args.out, FIELDS, 6)
    plan = list(itertools.product(args.methods, args.algorithms, args.learning_rates, args.layers))
    for method, algorithm, lr, selection in tqdm(plan, unit="run"):
        key = (method, algorithm, lr, selection, args.steps, args.seed)
        if records.has(key):
            continue
        rows = run(method, algorithm, lr, selection, args.steps, args.seed)
        records.add(key, rows)


if __name__ == "__main__":
    main()
