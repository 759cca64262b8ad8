"""How much memory does a run need with the fast update, and how long until the first update?

Each figure is of a process of its own that trains for some updates: its peak resident memory
(``getrusage``), less that of a process that only imports, and the seconds from the call of
``learn()`` to the end of the first update, with the compiled functions in the cache and without.

    python experiments/memory.py
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from typing import Any

CONTESTANTS = {"SB3": ("stable_baselines3", "MlpPolicy"), "snrl": ("snrl", "MlpPolicy"),
               "snrl SN": ("snrl", "SNMlpPolicy")}  # fmt: skip


def run(algorithm: str, home: str, policy: str, env: str, updates: int) -> dict[str, float]:
    """Train in this process."""
    import stable_baselines3
    from stable_baselines3.common.callbacks import BaseCallback

    import snrl

    class First(BaseCallback):
        seconds = float("nan")

        def _on_rollout_start(self) -> None:
            if self.seconds != self.seconds and self.model._n_updates:  # type: ignore[attr-defined]
                self.seconds = time.perf_counter() - start

        def _on_step(self) -> bool:
            return True

    first = First()
    if updates:
        of: Any = {"snrl": snrl, "stable_baselines3": stable_baselines3}[home]
        options = {"learning_starts": 1, "batch_size": 256, "buffer_size": 100_000, "seed": 0}
        model = getattr(of, algorithm)(policy, env, device="cpu", train_freq=1, **options)
        start = time.perf_counter()
        model.learn(updates, first)
    # Kibibytes on Linux.
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {"peak": peak, "first": first.seconds}


def measure(*arguments: object, cache: str | None = None) -> dict[str, float]:
    command = [sys.executable, __file__, "--child", *map(str, arguments)]
    environment = os.environ | ({} if cache is None else {"SNRL_CACHE_DIR": cache})
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--child", nargs=5, help=argparse.SUPPRESS)
    parser.add_argument("--env", default="Hopper-v5", help="task")
    parser.add_argument("--updates", type=int, default=300, help="updates of each process")
    args = parser.parse_args()
    if args.child:
        algorithm, home, policy, env, updates = args.child
        print(json.dumps(run(algorithm, home, policy, env, int(updates))))
        return
    print("| algorithm | contestant | peak, MiB | of SB3's | first update, s | uncompiled, s |")
    print("|---|---|---|---|---|---|")
    for algorithm in ("SAC", "TD3"):
        base = None
        for name, (home, policy) in CONTESTANTS.items():
            found = measure(algorithm, home, policy, args.env, args.updates)
            base = base or found["peak"]
            with tempfile.TemporaryDirectory() as cache:
                cold = measure(algorithm, home, policy, args.env, 5, cache=cache)
            print(
                f"| {algorithm} | {name} | {found['peak']:.0f} | {found['peak'] / base:.2f} | "
                f"{found['first']:.2f} | {cold['first']:.2f} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
