"""A study on a real Ray cluster of two nodes on this machine, one of which is killed."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from snrl.runs.errors import ConfigError
from snrl.spectral.native.build import cache_folder
from snrl.studies.execute.on_ray import RayExecutor

STUDY: dict[str, Any] = {
    "name": "on ray",
    "tasks": ["Pendulum-v1"],
    "algorithms": ["sac"],
    "variants": {"plain": {}},
    "seeds": 3,
    "common": {
        # So many that a run is not over before its node is.
        "total_timesteps": 5000,
        "learning_starts": 100,
        "eval_freq": 2500,
        "n_eval_episodes": 1,
        "net_arch": [16, 16],
        "batch_size": 16,
        "values": "off",
        "device": "cpu",
    },
}


@pytest.fixture
def cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A head that takes no runs, and two nodes that take one each."""
    monkeypatch.setenv("SNRL_CACHE_DIR", str(cache_folder()))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[3]))
    from ray.cluster_utils import Cluster

    made = Cluster(True, head_node_args={"num_cpus": 0, "include_dashboard": False})
    try:
        made.nodes = [made.add_node(num_cpus=1) for _ in range(2)]
        yield made
    finally:
        made.shutdown()


# What Ray itself leaves open.
@pytest.mark.filterwarnings("ignore::ResourceWarning")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.filterwarnings("ignore::FutureWarning")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_lost_node_costs_no_run(cluster: Any, tmp_path: Path) -> None:
    Path("study.yaml").write_text(yaml.safe_dump(STUDY))
    command = [sys.executable, "-m", "snrl.compare", "study.yaml", "--no-report", "--no-wandb"]
    command += ["--ray", cluster.address]
    log = tmp_path / "stderr"
    with log.open("wb") as file:
        study = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=file)
    runs = tmp_path / "studies" / "on ray" / "runs" / "Pendulum-v1" / "sac" / "plain"
    while [_status(x) for x in runs.glob("*/status.json")].count("running") < 2:
        assert study.poll() is None, log.read_text()
        time.sleep(0.1)
    cluster.remove_node(cluster.nodes[0], allow_graceful=False)
    out, _ = study.communicate(timeout=300)
    said = log.read_text()
    assert study.returncode == 0, said
    # Ray prints its own news of a lost node.
    assert out.decode().splitlines()[-1].startswith("on ray: 3 runs done, 0 failed; in /")
    assert "2 at once: a guess" in said
    assert said.count("the loss of its node had ended it") == 1
    starts = []
    for seed in range(3):
        folder = runs / f"seed{seed}"
        assert _status(folder / "status.json") == "done"
        starts.append((folder / "run.log").read_text().count("] python -m snrl.run "))
    assert sorted(starts) == [1, 1, 2]


def _status(file: Path) -> str:
    return str(json.loads(file.read_text())["status"])


def test_a_cluster_that_is_not_there() -> None:
    environment = {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"}
    code = (
        "from snrl.studies.execute.on_ray import RayExecutor\n"
        "from snrl.runs.errors import ConfigError\n"
        "try: RayExecutor('auto', 1, 0.0)\n"
        "except ConfigError as error: print(error)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True
    )
    assert done.stdout.startswith("no Ray cluster at auto: Could not find any running Ray")


def test_without_ray(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(ConfigError, match=r'--ray needs ray: pip install "snrl\[ray\]"'):
        RayExecutor("auto", 1, 0.0)
