"""Run folders as a study leaves them, without the training: for tests and benchmarks."""

import json
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from snrl.studies.panels import PANELS

# What each measure is about at the end of a run, where it is not about 1.
_LEVELS = {"sn/sigma_error": 1e-6, "values/srank": 60.0, "values/numerical_rank": 200.0}


def write_study(
    folder: Path,
    tasks: tuple[str, ...] = ("Pendulum-v1", "Hopper-v5"),
    algos: tuple[str, ...] = ("sac", "td3"),
    variants: tuple[str, ...] = ("plain", "sn"),
    seeds: int = 3,
    evaluations: int = 10,
    budget: int = 10_000,
) -> list[Path]:
    """Write the folders of a study's runs; the i-th variant's returns rise with i.

    Returns:
        The run folders.
    """
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "study.yaml").write_text("name: synthetic\n", encoding="utf-8")
    paths = []
    for task, algo, (rank, variant), seed in product(
        tasks, algos, enumerate(variants), range(seeds)
    ):
        place = folder / "runs" / task.replace("/", "_") / algo / variant / f"seed{seed}"
        _write_run(place, task, algo, rank, seed, evaluations, budget)
        paths.append(place)
    return paths


def _write_run(
    path: Path,
    task: str,
    algo: str,
    rank: int,
    seed: int,
    evaluations: int,
    budget: int,
) -> None:
    # The seed's own luck is shared by the variants, as a paired comparison supposes.
    luck = np.random.default_rng(seed).normal()
    chance = np.random.default_rng([seed, rank, len(task), len(algo)])
    path.mkdir(parents=True)
    steps = np.linspace(budget / evaluations, budget, evaluations).astype(int)
    share = steps / budget
    scale = 100.0 if task.startswith("P") else 3000.0
    level = scale * (1 - np.exp(-(3 + rank) * share)) * (1 + 0.1 * rank) + 0.05 * scale * luck
    returns = level[:, None] + 0.03 * scale * chance.normal(size=(evaluations, 5))
    np.savez(
        path / "evaluations.npz",
        timesteps=steps,
        results=returns,
        ep_lengths=np.full((evaluations, 5), 200),
    )
    measures = sorted({measure for panel in PANELS for measure in panel.measures})
    with (path / "progress.json").open("w", encoding="utf-8") as file:
        for place, step in enumerate(steps):
            row: dict[str, Any] = {
                "train/n_updates": int(step) - 100,
                "time/total_timesteps": int(step),
            }
            for measure in measures:
                noise = float(np.exp(0.2 * chance.normal()))
                row[measure] = _LEVELS.get(measure, 1.0) * (0.5 + float(share[place])) * noise
            row["eval/mean_reward"] = float(returns[place].mean())
            row["values/bias_mean"] = scale * (0.3 / (1 + rank) + 0.02 * chance.normal())
            row["values/diverged"] = 0.0
            file.write(json.dumps(row) + "\n")
    config = {
        "algo": algo,
        "env": task,
        "total_timesteps": budget,
        "seed": seed,
        "sn": rank > 0,
        "net_arch": [256, 256],
    }
    if rank:
        config |= {"sn_layers": [-2], "sn_coef": float(rank)}
    (path / "config.yaml").write_text(yaml.safe_dump(config, sort_keys=False), encoding="utf-8")
    sn = f" --sn --sn-coef {rank}" if rank else ""
    status = {
        "status": "done",
        "reason": None,
        "command": f"python -m snrl.run {algo}{sn} --env {task} --seed {seed} --out {path}",
        "timesteps": budget,
        "seconds": 60.0 + seed,
    }
    (path / "status.json").write_text(json.dumps(status), encoding="utf-8")
