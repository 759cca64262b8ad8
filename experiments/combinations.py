"""Does every stabiliser, with SN and without, train in every algorithm, and go on from a file?

Each of the critics ``plain``, ``sn``, and every other stabiliser alone and with ``sn``, in SAC,
TD3, DDPG, TQC, CrossQ and DQN, and with the fast update where there is one: 500 environment steps,
of which the critic trains on the last 400; saved with its replay buffer; loaded; both predict; both
go on for 50 steps from the same seed, and have to end with the same parameters, bit for bit, and
the same predictions. Then the norm of every layer that SN holds is compared with numpy's SVD,
online and target. What an algorithm cannot have has to be refused with a reason.

    python experiments/combinations.py            # one process; a quarter of an hour on one core
    python experiments/combinations.py --algorithms sac dqn --out -

Prints the table as it grows, writes it as CSV (``-``: not), and exits with 1 if one failed.
"""

import argparse
import csv
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from stable_baselines3.common.utils import set_random_seed

import snrl  # noqa: F401  (registers the names)
from snrl.algorithms import SOURCES, load_algorithm
from snrl.critics import access
from snrl.critics.stabilizers import STABILIZERS
from snrl.spectral import SpectralLayer

FIELDS = ["algorithm", "update", "critic", "outcome", "norm_error", "reason"]
ALGORITHMS = ["sac", "td3", "ddpg", "tqc", "crossq", "dqn"]
UPDATES = ["sb3", "fast"]
LEARN, STARTS, MORE = 500, 100, 50
# The largest relative error of a held norm that is taken for exact: of float32 and its SVD.
TOLERANCE = 1e-3


def critics() -> list[str]:
    """List the critics: none, each alone, and each with SN."""
    others = [name for name in STABILIZERS if name != "sn"]
    return ["plain", "sn", *others, *(f"sn+{name}" for name in others)]


def build(algorithm: str, update: str, critic: str) -> Any:
    """Build a tiny model; raises ``ValueError`` where the algorithm cannot have the critic."""
    names = critic.split("+")
    policy_kwargs: dict[str, Any] = {"net_arch": [16, 16], "critic": critic}
    if "redq" in names and algorithm != "dqn":
        policy_kwargs["n_critics"] = 4
    options: dict[str, Any] = {}
    if algorithm == "dqn":
        options = {"train_freq": 1, "target_update_interval": 20, "tau": 0.5}
    return load_algorithm(algorithm, update == "fast")(
        "SNMlpPolicy",
        "CartPole-v1" if algorithm == "dqn" else "Pendulum-v1",
        policy_kwargs=policy_kwargs,
        learning_starts=STARTS,
        batch_size=16,
        buffer_size=1000,
        seed=0,
        device="cpu",
        **options,
    )


def norm_error(model: Any) -> float | None:
    """Compare the norms that are applied with the coefficient; None where SN holds none."""
    errors = []
    for critic in (access.online_critic(model), access.target_critic(model)):
        for layer in critic.modules() if critic is not None else ():
            if isinstance(layer, SpectralLayer):
                applied = layer.effective_weight().detach().double().numpy()
                errors.append(abs(np.linalg.norm(applied, 2) - 1))
    return max(errors) if errors else None


def go_on(model: Any, obs: np.ndarray) -> np.ndarray:
    """Train on from a fresh episode and a seed; give predictions."""
    model._last_obs = None
    model.set_random_seed(5)
    set_random_seed(5)
    model.learn(MORE, reset_num_timesteps=False)
    return model.predict(obs, deterministic=True)[0]


def difference(one: Any, two: Any) -> str | None:
    """Name the first part of two models' parameters that differs, optimisers included."""

    def flat(value: Any, name: str = "") -> dict[str, Any]:
        if isinstance(value, dict | list | tuple):
            items = value.items() if isinstance(value, dict) else enumerate(value)
            return {k: x for key, part in items for k, x in flat(part, f"{name}/{key}").items()}
        return {name: value}

    ours, theirs = flat(one.get_parameters()), flat(two.get_parameters())
    if ours.keys() != theirs.keys():
        return f"keys {sorted(ours.keys() ^ theirs.keys())[:3]}"
    for key, value in ours.items():
        other = theirs[key]
        same = torch.equal(value, other) if isinstance(value, torch.Tensor) else value == other
        if not same:
            return key
    return None


def check(algorithm: str, update: str, critic: str) -> tuple[str, float | None, str]:
    """Try one combination; gives outcome, error of the norm, and reason."""
    try:
        model = build(algorithm, update, critic)
    except ValueError as error:
        return "refused", None, str(error)
    start = [x.detach().clone() for x in access.online_critic(model).parameters()]
    model.learn(LEARN)
    end = [*access.online_critic(model).parameters()]
    problems = []
    if not all(x.isfinite().all() for x in end):
        problems.append("weights are not finite")
    if all(torch.equal(x, y) for x, y in zip(start, end, strict=True)):
        problems.append("nothing was trained")
    with tempfile.TemporaryDirectory() as folder:
        model.save(f"{folder}/model.zip")
        model.save_replay_buffer(f"{folder}/buffer.pkl")
        loaded = type(model).load(f"{folder}/model.zip", env=model.env, device="cpu")
        loaded.load_replay_buffer(f"{folder}/buffer.pkl")
    if update == "fast":
        loaded.prepare()  # else its first actions are Stable-Baselines3's, which round otherwise
    obs = np.stack([model.observation_space.sample() for _ in range(20)]).clip(-5, 5)
    predictions = [x.predict(obs, deterministic=True)[0] for x in (model, loaded)]
    if not np.array_equal(*predictions):
        problems.append("the loaded model predicts another thing")
    if (key := difference(model, loaded)) is not None:
        problems.append(f"loaded: {key} differs")
    if not np.array_equal(*[go_on(x, obs) for x in (model, loaded)]):
        problems.append("the continued models predict another thing")
    if (key := difference(model, loaded)) is not None:
        problems.append(f"continued: {key} differs")
    error = norm_error(model)
    if ("sn" in critic.split("+")) != (error is not None):
        problems.append("SN holds layers that it should not, or none")
    elif error is not None and error > TOLERANCE:
        problems.append(f"a norm is off by {error:.1e}")
    return ("FAILED" if problems else "ok"), error, "; ".join(problems)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--algorithms", nargs="+", choices=ALGORITHMS, default=ALGORITHMS)
    parser.add_argument("--updates", nargs="+", choices=UPDATES, default=UPDATES)
    parser.add_argument("--critics", nargs="+", default=critics(), metavar="CRITIC")
    default = Path(__file__).with_suffix(".csv")
    parser.add_argument("--out", default=default, help="a CSV file, or - for none")
    args = parser.parse_args()
    torch.set_num_threads(1)
    rows = []
    for algorithm in args.algorithms:
        for update in args.updates if SOURCES[algorithm].has_fast else ["sb3"]:
            for critic in args.critics:
                try:
                    outcome, error, reason = check(algorithm, update, critic)
                except Exception as problem:  # a row of the table, whatever it is
                    outcome, error, reason = "FAILED", None, f"{type(problem).__name__}: {problem}"
                off = "" if error is None else f"{error:.1e}"
                row = [algorithm, update, critic, outcome, off, reason]
                print(f"{algorithm:7}{update:5}{critic:24}{outcome:8}{off:>8} {reason}", flush=True)
                rows.append(dict(zip(FIELDS, row, strict=True)))
    if str(args.out) != "-":
        with Path(args.out).open("w", newline="") as file:
            writer = csv.DictWriter(file, FIELDS, lineterminator="\n")
            writer.writeheader()
            writer.writerows(rows)
    counts = {x: sum(row["outcome"] == x for row in rows) for x in ("ok", "refused", "FAILED")}
    print(", ".join(f"{count} {outcome}" for outcome, count in counts.items()))
    raise SystemExit(counts["FAILED"] > 0)


if __name__ == "__main__":
    main()
