"""What ``import snrl`` costs over ``import stable_baselines3``, as whole processes in turn.

python experiments/import_cost.py --pairs 15
"""

import argparse
import statistics
import subprocess
import sys
import time


def seconds(statement: str) -> float:
    start = time.perf_counter()
    subprocess.run([sys.executable, "-c", statement], check=True)
    return time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pairs", type=int, default=15)
    pairs = parser.parse_args().pairs
    baseline, ours = "import stable_baselines3", "import snrl"
    seconds(baseline), seconds(ours)
    times = [(seconds(baseline), seconds(ours)) for _ in range(pairs)]
    ratios = [b / a for a, b in times]
    print(f"{baseline}: median {statistics.median(a for a, _ in times):.3f} s")
    print(f"{ours}: median {statistics.median(b for _, b in times):.3f} s")
    print(f"ratio, pair by pair: median {statistics.median(ratios):.3f}")


if __name__ == "__main__":
    main()
