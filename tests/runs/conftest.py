"""What the tests of runs share: small real runs, and a reader of W&B's offline files."""

import json
import struct
from pathlib import Path
from typing import Any

import pytest

from snrl.runs.config import RunConfig, resolve
from snrl.runs.result import RunResult
from snrl.runs.train import train

# Real tasks and real SB3, as small as they come: an episode of Pendulum-v1 has 200 steps.
TINY = {
    "total_timesteps": 850,
    "learning_starts": 780,
    "eval_freq": 400,
    "n_eval_episodes": 2,
    "net_arch": [16, 16],
    "batch_size": 16,
    "buffer_size": 1000,
    "device": "cpu",
}


class Runs:
    """Makes and trains tiny runs in a folder of its own."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def config(self, algo: str = "sac", **flags: Any) -> RunConfig:
        return resolve(algo, TINY | flags)

    def train(self, name: str, config: RunConfig, **arguments: Any) -> RunResult:
        return train(config, out=self.path / name, progress=False, **arguments)


@pytest.fixture
def runs(tmp_path: Path) -> Runs:
    return Runs(tmp_path)


@pytest.fixture(scope="session")
def shared_run(tmp_path_factory: pytest.TempPathFactory) -> RunResult:
    """One finished SN run, for the tests that only look at it."""
    made = Runs(tmp_path_factory.mktemp("shared"))
    return made.train("run", made.config(sn=True), command="the command")


def _read_wandb(folder: Path) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Read the configuration and the history rows of an offline run.

    The file is a LevelDB log: after 7 bytes, blocks of 32 KiB, in them chunks with a header of 7
    bytes (checksum, length, and whether the record is whole or begins, goes on or ends here).
    """
    from wandb.proto import wandb_internal_pb2

    (path,) = (folder / "wandb").glob("*run-*/run-*.wandb")
    data = path.read_bytes()
    config: dict[str, Any] = {}
    rows: list[dict[str, Any]] = []
    position, record = 7, b""
    while position + 7 <= len(data):
        left = 32768 - position % 32768
        if left < 7:
            position += left
            continue
        _, length, kind = struct.unpack("<IHB", data[position : position + 7])
        record += data[position + 7 : position + 7 + length]
        position += 7 + length
        if kind not in (1, 4):
            continue
        parsed = wandb_internal_pb2.Record.FromString(record)
        record = b""
        for item in parsed.run.config.update:
            config[item.key] = json.loads(item.value_json)
        if parsed.HasField("history"):
            rows.append(
                {
                    "/".join(item.nested_key) or item.key: json.loads(item.value_json)
                    for item in parsed.history.item
                }
            )
    return config, rows


@pytest.fixture
def read_wandb() -> Any:
    return _read_wandb
