"""Kill a study at random moments, again and again, and see that it ends as one left alone.

Two tasks × two variants × three seeds. A kill (SIGKILL) hits the driver, or one of the workers, by
chance; a killed driver is started again by the same command. Meanwhile it is watched that no run
folder ever has two processes. At the end, every run has to be over and whole, none may have been
started after it was over, and evaluations and logs have to be those of the undisturbed study, but
for what tells the time. On two busy cores it took twelve minutes.

    python experiments/kill_study.py [--kills 10] [--seed 0] [--keep DIR]
"""

import argparse
import json
import os
import random
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import numpy as np
import yaml
from stable_baselines3 import SAC

STUDY = {
    "name": "killed",
    "tasks": ["Pendulum-v1", "MountainCarContinuous-v0"],
    "algorithms": ["sac"],
    "variants": {"plain": {}, "sn": {"sn": True}},
    "seeds": 3,
    "common": {
        "total_timesteps": 3000,
        "learning_starts": 100,
        "train_freq": 1,
        "gradient_steps": 1,
        "use_sde": False,
        "net_arch": [64, 64],
        "batch_size": 64,
        "eval_freq": 500,
        "n_eval_episodes": 2,
        "device": "cpu",
    },
}
# Keys of the log that tell the time.
TIME = re.compile(r"time/(?!total_timesteps)|values/time_share")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--kills", type=int, default=10, help="how many (default: 10)")
    parser.add_argument("--seed", type=int, default=0, help="of the moments (default: 0)")
    parser.add_argument("--keep", type=Path, help="work here, and keep what comes out")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = (arguments.keep or Path(temporary)).resolve()
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "study.yaml").write_text(yaml.safe_dump(STUDY, sort_keys=False))
        start = time.monotonic()
        alone = begin(folder, "alone")
        if alone.wait() != 0:
            raise SystemExit("the undisturbed study failed: see its run.log files with --keep")
        took = time.monotonic() - start
        print(f"undisturbed: {took:.0f} s", flush=True)
        # All of them are to come before the study is over, however fast the machine is.
        kill_and_finish(folder, arguments.kills, random.Random(arguments.seed), took / 5)
        return compare(folder / "alone", folder / "killed")


def begin(folder: Path, out: str) -> "subprocess.Popen[bytes]":
    """Start a study, or go on with it."""
    command = [sys.executable, "-m", "snrl.compare", "study.yaml", "--out", out]
    command += ["--no-report", "--no-wandb", "--checkpoint-minutes", "0.03"]
    with (folder / f"{out}.log").open("ab") as log:
        return subprocess.Popen(command, cwd=folder, stdout=log, stderr=log)


def kill_and_finish(folder: Path, kills: int, chance: random.Random, longest: float) -> None:
    driver = begin(folder, "killed")
    start, hit, most = time.monotonic(), Counter(), 1
    due = time.monotonic() + chance.uniform(1, longest)
    while driver.poll() is None:
        time.sleep(0.1)
        running = workers(folder / "killed")
        most = max([most, *Counter(running.values()).values()])
        if sum(hit.values()) == kills or time.monotonic() < due:
            continue
        due = time.monotonic() + chance.uniform(1, longest)
        victim = chance.choice([driver.pid, chance.choice([*running, driver.pid])])
        what = "driver" if victim == driver.pid else "worker"
        try:
            os.kill(victim, signal.SIGKILL)
        except ProcessLookupError:
            continue
        hit[what] += 1
        print(f"{time.monotonic() - start:4.0f} s: killed {what} {running.get(victim, '')}")
        if what == "driver":
            driver.wait()
            driver = begin(folder, "killed")
    took = time.monotonic() - start
    print(f"killed {dict(hit)}: {took:.0f} s, exit code {driver.returncode}", flush=True)
    print(f"most processes in one run folder at once: {most}")
    if driver.returncode != 0 or most > 1:
        raise SystemExit("FAILED")
    if sum(hit.values()) < kills:
        raise SystemExit(f"the study was over before {kills} kills: give another --seed")


def workers(study: Path) -> dict[int, str]:
    """Processes by the run that they do, without those that a run itself has just forked."""
    found, parents = {}, {}
    for process in Path("/proc").glob("[0-9]*"):
        try:
            words = (process / "cmdline").read_bytes().decode().split("\0")
            if "snrl.run" in words and (process / "cwd").resolve() == study.parent:
                out = words[words.index("--out") + 1]
                if out.startswith(f"{study.name}/"):
                    status = (process / "status").read_text()
                    parents[int(process.name)] = int(status.split("PPid:")[1].split()[0])
                    found[int(process.name)] = out.removeprefix(f"{study.name}/runs/")
        except (OSError, ValueError):
            continue
    return {pid: run for pid, run in found.items() if parents[pid] not in found}


def compare(alone: Path, killed: Path) -> int:
    names = [str(path.parent.relative_to(alone)) for path in sorted(alone.rglob("status.json"))]
    others = [str(path.parent.relative_to(killed)) for path in sorted(killed.rglob("status.json"))]
    bad = [] if names == others and len(names) == 12 else [f"runs {names} and {others}"]
    starts = 0
    for name in names:
        first, second = alone / name, killed / name
        log = (second / "run.log").read_text()
        starts += len(re.findall(r"^\[.*\] python -m snrl\.run ", log, re.M))
        # The line a run ends with stands last, and once.
        if log.count(": return ") < 1 or "] python -m" in log.rsplit("run folder", 1)[-1]:
            bad.append(f"{name} was started after it was over")
        states = [json.loads((x / "status.json").read_text())["status"] for x in (first, second)]
        if states != ["done", "done"]:
            bad.append(f"{name} is {states[0]} and {states[1]}")
        if list(second.rglob("*.partial*")):
            bad.append(f"{second} has half-written files")
        if rows(first) != rows(second):
            bad.append(f"{name}: the logs differ")
        with np.load(first / "evaluations.npz") as a, np.load(second / "evaluations.npz") as b:
            if any(not np.array_equal(a[key], b[key]) for key in a):
                bad.append(f"{name}: the evaluations differ")
        models = [SAC.load(folder / "model.zip", device="cpu") for folder in (first, second)]
        weights = [model.policy.state_dict() for model in models]
        if any(not bool((weights[0][key] == weights[1][key]).all()) for key in weights[0]):
            bad.append(f"{name}: the weights differ")
    print(f"{len(names)} runs, {starts} processes for them, {len(bad)} complaints")
    print("\n".join(bad))
    return int(bool(bad))


def rows(folder: Path) -> list[str]:
    """Rows of the log, without what tells the time."""
    lines = (folder / "progress.json").read_text().splitlines()
    kept = [{k: v for k, v in json.loads(x).items() if not TIME.match(k)} for x in lines]
    return [json.dumps(row, sort_keys=True) for row in kept]


if __name__ == "__main__":
    sys.exit(main())
