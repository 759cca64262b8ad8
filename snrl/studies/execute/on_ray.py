"""Runs on a Ray cluster: the same processes, placed by what they need."""

import logging
import socket
from typing import Any

from snrl.runs.errors import ConfigError
from snrl.studies.execute import process
from snrl.studies.execute.executor import Ended
from snrl.studies.execute.process import Job

_CONNECT_SECONDS = 5.0


class RayExecutor:
    """One Ray task per run, which starts the run's process on its node and waits for it.

    All runs are given to Ray at once, so that a cluster that grows with its load does. What is
    lost with a node is not tried again here: the caller starts it again, and the run goes on from
    its checkpoint. Every node needs ``snrl`` installed, and the study folder under the same path.

    Args:
        address: Of the cluster; ``"auto"`` for the one this machine belongs to.
        threads: CPUs that a run needs, and threads it may use.
        gpus: GPUs that a run needs; a fraction shares one.

    Raises:
        ConfigError: If Ray is not installed, the cluster cannot be reached, or has no node that a
            run fits on.
    """

    def __init__(self, address: str, threads: int, gpus: float) -> None:
        """Connect to the cluster."""
        try:
            import ray
        except ImportError as error:
            raise ConfigError('--ray needs ray: pip install "snrl[ray]"') from error
        _check_reachable(address)
        self._ray: Any = ray
        self._threads = threads
        self._gpus = gpus
        try:
            ray.init(address, log_to_driver=False, logging_level=logging.ERROR)
        except (ConnectionError, RuntimeError, ValueError) as error:
            reason = (str(error).splitlines() or [""])[0]
            raise ConfigError(f"no Ray cluster at {address}: {reason}") from error
        if self.at_once < 1:
            self.close()
            raise ConfigError(
                f"no node of the Ray cluster has {threads} CPUs and {gpus:g} GPUs for a run"
            )
        # By value, because importing it on a node would load all of snrl into Ray's worker.
        self._ray.cloudpickle.register_pickle_by_value(process)
        self._task = ray.remote(process.run_to_end).options(
            num_cpus=threads, num_gpus=gpus, max_retries=0
        )
        self._names: dict[Any, str] = {}

    def __str__(self) -> str:
        """What it is, for the user."""
        nodes = sum(node["Alive"] for node in self._ray.nodes())
        needs = f"{self._threads} CPU" + (f" and {self._gpus:g} GPU" if self._gpus else "")
        return f"{self.at_once} at once on a Ray cluster of {nodes} nodes, {needs} each"

    @property
    def at_once(self) -> int:
        """How many jobs the nodes have room for, as they are now."""
        return sum(self._fit(node["Resources"]) for node in self._ray.nodes() if node["Alive"])

    def _fit(self, resources: dict[str, float]) -> int:
        cpus = resources.get("CPU", 0) // self._threads
        gpus = resources.get("GPU", 0) // self._gpus if self._gpus else cpus
        return int(min(cpus, gpus))

    def has_room(self) -> bool:
        """Ray keeps the queue."""
        return True

    def start(self, job: Job) -> None:
        """Queue a job."""
        self._names[self._task.remote(job, self._threads)] = job.name

    def ended(self) -> list[Ended]:
        """Return the jobs that ended since the last call."""
        if not self._names:
            return []
        ready, _ = self._ray.wait(list(self._names), num_returns=len(self._names), timeout=0)
        return [self._end(reference) for reference in ready]

    def _end(self, reference: Any) -> Ended:
        name = self._names.pop(reference)
        try:
            return Ended(name, self._ray.get(reference))
        except self._ray.exceptions.RayTaskError as error:
            return Ended(name, 1, str(error.cause))
        except self._ray.exceptions.RayError:
            return Ended(name, None)

    def ask_to_stop(self) -> None:
        """Interrupt the tasks, which send SIGTERM to their processes."""
        for reference in self._names:
            self._ray.cancel(reference, force=False)

    def close(self) -> None:
        """Leave the cluster, which ends what is still running there."""
        self._ray.shutdown()


def _check_reachable(address: str) -> None:
    """Refuse an address where nobody listens, which Ray would go on trying for many minutes."""
    host, colon, port = address.removeprefix("ray://").rpartition(":")
    if not (colon and port.isdecimal()):
        return
    try:
        socket.create_connection((host, int(port)), _CONNECT_SECONDS).close()
    except (OSError, OverflowError) as error:
        raise ConfigError(f"no Ray cluster at {address}: {error}") from error
