"""What share of a study's time is not training: planning, tracking, checkpoints, the report.

Runs the same study twice in turn, in processes of their own, one run at a time: once as
``snrl.compare`` does it (W&B offline, a checkpoint every five minutes, the report), once bare, the
same runs without W&B, without checkpoints and without a report. Each pair gives a share of the CPU
time, which other work on the machine disturbs less than the clock: all that the whole takes above
the bare runs without their planning, over these. What does not grow with the length of runs
(planning, the report, the start of W&B) weighs more in this short study than in a longer one, so
its own time is printed too.

    python experiments/bookkeeping.py [--timesteps 10000] [--rounds 3]
"""

import argparse
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import yaml

STUDY: dict[str, Any] = {
    "tasks": ["Hopper-v5"],
    "algorithms": ["sac"],
    "variants": {"plain": {}, "sn": {"sn": True}},
    "seeds": 1,
    "common": {"learning_starts": 500},
}


def compare(folder: Path, *arguments: str) -> float:
    """Do a command of ``snrl.compare``; return the CPU seconds of it and of its runs."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    command = [sys.executable, "-m", "snrl.compare", "study.yaml", "--jobs", "1", *arguments]
    subprocess.run(command, cwd=folder, check=True, stdout=subprocess.DEVNULL)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--timesteps", type=int, default=10_000, help="of each of two runs")
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    # Files of this checkout, wherever the command is given.
    os.environ["PYTHONPATH"] = str(Path(__file__).parents[1])
    shares = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        common = {**STUDY["common"], "total_timesteps": arguments.timesteps}
        (folder / "study.yaml").write_text(yaml.safe_dump({**STUDY, "common": common}))
        for _ in range(arguments.rounds):
            runs = compare(folder, "--no-wandb", "--checkpoint-minutes", "0", "--no-report")
            shutil.rmtree(folder / "studies")
            full = compare(folder)
            # The runs are over: what is left is planning, and planning with the report.
            planning = compare(folder, "--no-report")
            report = compare(folder) - planning
            shutil.rmtree(folder / "studies")
            runs -= planning
            shares.append(full / runs - 1)
            print(
                f"bare runs {runs:.1f} s of CPU, whole {full:.1f}: {shares[-1]:.1%}; "
                f"planning {planning:.1f} s, report {report:.1f} s, the rest of it is in the runs"
            )
    print(f"median {statistics.median(shares):.1%} over {arguments.rounds} rounds")


if __name__ == "__main__":
    main()
