"""Start the runs of a sweep as tasks of a Ray cluster: the cluster of RAY_ADDRESS, or a local one.

Every node must see this repository at the same path, with the same environment, as on a shared file system.
A worker that dies takes its run with it. Ray then starts the task again, and the run resumes.
"""

from __future__ import annotations

import logging
import time
from pathlib import Path
from typing import TYPE_CHECKING

from reproducing.launch import Job, start_child
from reproducing.recipes import Cell

from common import cli
from common.errors import UserError

if TYPE_CHECKING:
    import ray

RETRIES = 2  # of a task whose worker died


class Task:
    """A run as a Ray task (a `Job`)."""

    def __init__(self, ref: ray.ObjectRef[int], log: Path) -> None:
        self.ref, self.log = ref, log
        self.code: int | None = None

    def poll(self) -> int | None:
        import ray

        if self.code is None and ray.wait([self.ref], timeout=0)[0]:
            try:
                self.code = ray.get(self.ref)
            except ray.exceptions.TaskCancelledError:
                self.code = 130
            except ray.exceptions.RayError as error:
                self.code = 1
                with self.log.open("a") as file:
                    file.write(f"the Ray worker died, {RETRIES + 1} times ({type(error).__name__})\n")
        return self.code

    def terminate(self, *, force: bool = False) -> None:
        import ray

        if self.poll() is None:
            ray.cancel(self.ref, force=force)

    def kill(self) -> None:
        self.terminate(force=True)


class OnRay:
    """Starts runs on a Ray cluster (a `Launcher`), with a GPU each where there are GPUs.

    Raises UserError where Ray is not installed, or its cluster cannot be reached.
    """

    def __init__(self, slots: int) -> None:
        try:
            import ray
        except ImportError as error:
            raise UserError("--launcher ray: needs Ray; python -m pip install -e '.[ray]'") from error
        environment = {"PYTHONPATH": f"{Path(__file__).parent.parent}:{cli.ROOT}"}
        try:
            ray.init(log_to_driver=False, logging_level=logging.ERROR, runtime_env={"env_vars": environment})
        except ConnectionError as error:
            raise UserError(f"--launcher ray: {error}; set RAY_ADDRESS to a cluster that runs") from error
        resources = ray.cluster_resources()
        self.slots = slots
        self.cores = max(1, int(resources.get("CPU", 1)) // slots)
        gpus = 1 if resources.get("GPU", 0) >= 1 else 0
        self.task = ray.remote(max_retries=RETRIES, num_cpus=self.cores, num_gpus=gpus)(run)

    def start(self, cell: Cell) -> Job:
        cell.log.parent.mkdir(parents=True, exist_ok=True)
        return Task(self.task.remote(cell.command(), str(cell.log), self.cores), cell.log)

    def close(self) -> None:
        import ray

        ray.shutdown()


def run(command: list[str], log: str, threads: int) -> int:
    """Run a command to its end on a worker; a cancelled one is asked to end first."""
    child = start_child(command, Path(log), {"OMP_NUM_THREADS": str(threads)})
    try:
        while child.poll() is None:  # Ray sends no signal to cancel, so a wait would not be interrupted
            time.sleep(0.1)
        return child.returncode
    except BaseException:
        child.terminate()
        child.wait()
        raise
