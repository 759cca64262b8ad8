"""How long does training take, with SN and without, beside stock Stable-Baselines3 and SBX?

Times whole calls of ``learn()``: environment, replay buffer, update, callbacks. All contestants of
a setting take turns in one process, in an order drawn anew for every round, after as many steps of
their own that the compilers and caches need. SBX (JAX) takes part where it is installed
(``pip install sbx-rl``). The floor is the time of the update's matrix products alone, by torch, as
often as the steps of the round need them, with one weight for all layers of a shape, which may stay
in the cache. Those called bfloat16 train under ``torch.set_float32_matmul_precision("medium")``,
which holds for stock SB3 too; on a GPU that is TensorFloat32.

    python experiments/bench_train.py                     # everything, half an hour on 2 cores
    python experiments/bench_train.py --only sac Hopper-v5
    python experiments/bench_train.py --device cuda       # the same on a GPU; SBX takes JAX's own
    python experiments/bench_train.py --table             # print what is in the results

Each setting is a row for each contestant: the median over the rounds of the milliseconds per
environment step, and of the ratios to SB3 and to snrl without SN in the same round, with the 95%
percentile bootstrap intervals of these medians. What is in the output file already is not measured
again.
"""

import argparse
import csv
import importlib.util
import time
from collections import defaultdict
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import stable_baselines3
import torch
from records import Records
from stable_baselines3.common.off_policy_algorithm import OffPolicyAlgorithm
from tqdm import tqdm

import snrl
from snrl.spectral import precision

RESULTS = Path(__file__).with_suffix(".csv")
CONTESTANTS = ("SB3", "SB3 bfloat16", "SBX", "snrl", "snrl SN", "snrl SN bfloat16")
FIELDS = [
    "algorithm", "env", "gradient_steps", "network", "n_critics", "device", "threads", "rounds",
    "contestant", "milliseconds", "ratio", "ratio_low", "ratio_high",
    "to_plain", "to_plain_low", "to_plain_high", "floor",
]  # fmt: skip
FIRST = 300  # environment steps that do not count
NETWORKS = {"2×256": [256, 256], "4×512": [512, 512, 512, 512]}


class Setting(NamedTuple):
    """What is measured."""

    algorithm: str
    env: str
    gradient_steps: int
    network: str
    n_critics: int
    device: str = "cpu"


SETTINGS = [
    *(
        Setting(algorithm, env, gradient_steps, "2×256", 2)
        for algorithm in ("sac", "td3")
        for env in ("Pendulum-v1", "Hopper-v5", "Humanoid-v5")
        for gradient_steps in (1, 8)
    ),
    *(
        Setting(algorithm, "Hopper-v5", 1, network, n_critics)
        for algorithm in ("sac", "td3")
        for network, n_critics in (("4×512", 2), ("2×256", 5))
    ),
]


def learn(contestant: str, model: OffPolicyAlgorithm, steps: int, **kwargs: Any) -> None:
    """Train in the precision that the contestant's name tells."""
    with precision.products("medium" if contestant.endswith("bfloat16") else "highest"):
        model.learn(steps, **kwargs)


def build(contestant: str, setting: Setting) -> OffPolicyAlgorithm:
    name = setting.algorithm.upper()
    arguments: dict[str, Any] = {
        "learning_starts": 100,
        "batch_size": 256,
        "buffer_size": 100_000,
        "gradient_steps": setting.gradient_steps,
        "train_freq": 1,
        "seed": 0,
        "policy_kwargs": {"net_arch": NETWORKS[setting.network], "n_critics": setting.n_critics},
    }
    if contestant == "SBX":
        sbx = importlib.import_module("sbx")
        return getattr(sbx, name)("MlpPolicy", setting.env, **arguments)
    home = stable_baselines3 if contestant.startswith("SB3") else snrl
    policy = "SNMlpPolicy" if contestant.startswith("snrl SN") else "MlpPolicy"
    return getattr(home, name)(policy, setting.env, device=setting.device, **arguments)


def products(setting: Setting, model: OffPolicyAlgorithm, batch_size: int = 256) -> float:
    """Time the matrix products of one gradient step, in milliseconds: the median of many."""

    def shapes(in_features: int, out_features: int) -> list[tuple[int, int]]:
        widths = [in_features, *NETWORKS[setting.network], out_features]
        return list(pairwise(widths))

    obs_dim, action_dim = (x.shape[0] for x in (model.observation_space, model.action_space))
    critic = shapes(obs_dim + action_dim, 1) * setting.n_critics
    is_sac = setting.algorithm == "sac"
    actor = shapes(obs_dim, 2 * action_dim if is_sac else action_dim)
    # Of TD3, the actor's part is needed every other time, and for the first critic alone.
    part, heads = (1.0, critic) if is_sac else (0.5, critic[: len(critic) // setting.n_critics])
    forward = [*critic, *critic, *actor]
    to_weights, to_inputs = [*critic], [x for x in critic if x[0] != obs_dim + action_dim]
    late = [*heads, *actor], [*actor], [*heads, *(x for x in actor if x[0] != obs_dim)]
    device = setting.device
    memory = {
        shape: (
            torch.randn(batch_size, shape[0], device=device),
            torch.randn(shape[1], shape[0], device=device),
        )
        for shape in {*critic, *actor}
    }
    grads = {shape: torch.randn(batch_size, shape[1], device=device) for shape in memory}

    def run(forward: list, to_weights: list, to_inputs: list) -> float:
        start = time.perf_counter()
        for shape in forward:
            x, weight = memory[shape]
            torch.mm(x, weight.t())
        for shape in to_weights:
            torch.mm(grads[shape].t(), memory[shape][0])
        for shape in to_inputs:
            torch.mm(grads[shape], memory[shape][1])
        if device == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter() - start

    times = [run(forward, to_weights, to_inputs) + part * run(*late) for _ in range(60)]
    return float(np.median(times[20:])) * 1e3


def interval(values: np.ndarray, resamples: int = 2000) -> tuple[float, float]:
    """The percentile bootstrap's interval for the median."""
    chosen = np.random.default_rng(0).integers(0, len(values), (resamples, len(values)))
    low, high = np.quantile(np.median(values[chosen], axis=1), (0.025, 0.975))
    return float(low), float(high)


def measure(setting: Setting, rounds: int) -> list[dict[str, Any]]:
    names = [x for x in CONTESTANTS if x != "SBX" or importlib.util.find_spec("sbx")]
    models = {name: build(name, setting) for name in names}
    # Short, as the machine's speed changes within seconds.
    steps = max(6, (40 if setting.network == "2×256" else 10) // setting.gradient_steps)
    for name, model in models.items():
        learn(name, model, max(FIRST, 100 + steps))
    times: dict[str, list[float]] = defaultdict(list)
    floors = []
    order = np.random.default_rng(0)
    for _ in range(rounds):
        floors.append(products(setting, models["SB3"]) * setting.gradient_steps)
        for name in order.permutation(names):
            start = time.perf_counter()
            learn(name, models[name], steps, reset_num_timesteps=False)
            times[name].append((time.perf_counter() - start) / steps * 1e3)
    rows = []
    for name in names:
        taken = np.array(times[name])
        ratios: dict[str, float] = {}
        for label, other in (("ratio", "SB3"), ("to_plain", "snrl")):
            ratio = taken / np.array(times[other])
            ratios[label] = float(np.median(ratio))
            ratios[label + "_low"], ratios[label + "_high"] = interval(ratio)
        rows.append(
            {
                **setting._asdict(),
                "threads": torch.get_num_threads(),
                "rounds": rounds,
                "contestant": name,
                "milliseconds": float(np.median(taken)),
                **ratios,
                "floor": float(np.median(floors)),
            }
        )
    return rows


def print_table(path: Path) -> None:
    with path.open() as file:
        rows = list(csv.DictReader(file))
    settings = list(dict.fromkeys(tuple(row[x] for x in Setting._fields) for row in rows))
    shown = [name for name in CONTESTANTS if name != "SB3"]
    print("| algorithm, task | gradient steps | critics | products alone, ms | SB3, ms | "
          + " | ".join(f"**{x}**" if x == "snrl SN" else x for x in shown)
          + " | SN / plain |")  # fmt: skip
    print("|---" * (6 + len(shown)) + "|")
    for setting in settings:
        of = {
            row["contestant"]: row
            for row in rows
            if tuple(row[x] for x in Setting._fields) == setting
        }

        def ratio(name: str, label: str = "ratio", of: dict = of) -> str:
            if name not in of:
                return "–"
            middle, low, high = (float(of[name][label + x]) for x in ("", "_low", "_high"))
            return f"{middle:.2f} ({low:.2f} to {high:.2f})"

        algorithm, env, gradient_steps, network, n_critics, device = setting
        cells = [
            f"{algorithm.upper()}, {env}{'' if device == 'cpu' else ', ' + device}",
            gradient_steps,
            f"{n_critics} of {network}",
            f"{float(of['SB3']['floor']):.1f}",
            f"{float(of['SB3']['milliseconds']):.1f}",
            *map(ratio, shown),
            ratio("snrl SN", "to_plain"),
        ]
        print("| " + " | ".join(map(str, cells)) + " |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--out", type=Path, default=RESULTS, help="results, a CSV file")
    parser.add_argument("--rounds", type=int, default=25, help="turns of each contestant")
    parser.add_argument("--only", nargs="*", default=[], help="words a setting must contain")
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    parser.add_argument("--table", action="store_true", help="print the results and stop")
    args = parser.parse_args()
    words = {str(x) for setting in SETTINGS for x in setting}
    if unknown := [word for word in args.only if word not in words]:
        parser.error(
            f"--only: no setting has {', '.join(unknown)}; there are {', '.join(sorted(words))}"
        )
    if not args.table:
        records = Records(args.out, FIELDS, len(Setting._fields))
        chosen = [
            setting
            for setting in (x._replace(device=args.device) for x in SETTINGS)
            if not records.has(setting) and all(word in map(str, setting) for word in args.only)
        ]
        for setting in tqdm(chosen, unit="setting"):
            records.add(setting, measure(setting, args.rounds))
    print_table(args.out)


if __name__ == "__main__":
    main()
