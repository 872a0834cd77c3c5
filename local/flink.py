"""A real Flink cluster under Beam Python, on loopback: JobManager, TaskManager, Beam's job server, Python workers.

What a production site runs on many machines runs here on one, so that "the same pipeline on Flink" is tested. The
cluster's Java processes have Beam's jars on their class path; the workers are separate processes (EXTERNAL).
"""

import os
import signal
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import httpx

from local import process
from local.flink_jars import class_path
from local.ports import answers, free_port
from local.prerequisites import JAVA

Part = Literal["job-manager", "task-manager", "job-server", "workers"]
ENDED = ("FINISHED", "CANCELED", "FAILED")
PARTS: tuple[Part, ...] = ("job-manager", "task-manager", "job-server", "workers")
OPENED = "lang net io nio text time util util.concurrent util.concurrent.atomic util.concurrent.locks lang.reflect"
JVM = (
    *(f"--add-opens=java.base/java.{package}=ALL-UNNAMED" for package in OPENED.split()),
    "--add-opens=java.base/sun.nio.ch=ALL-UNNAMED",
    "--add-exports=java.rmi/sun.rmi.registry=ALL-UNNAMED",
    "-XX:+UseSerialGC",
)
QUICK_START = "-XX:TieredStopAtLevel=1"
"""For processes that coordinate: no second compiler."""
TASK_MANAGER_MEMORY = {
    "cpu.cores": "4",
    "memory.network.min": "128mb",
    "memory.network.max": "128mb",
    "memory.task.heap.size": "600mb",
    "memory.task.off-heap.size": "0b",
    "memory.framework.heap.size": "128mb",
    "memory.framework.off-heap.size": "128mb",
    "memory.managed.size": "256mb",
    "memory.jvm-metaspace.size": "256mb",
    "memory.jvm-overhead.min": "192mb",
    "memory.jvm-overhead.max": "192mb",
}
"""Flink's start scripts compute these; started without them, a TaskManager wants each one given."""


@dataclass
class Flink:
    """The cluster and its folder. Each part can be killed and started by itself."""

    folder: Path
    rpc_port: int = field(default_factory=free_port)
    rest_port: int = field(default_factory=free_port)
    job_port: int = field(default_factory=free_port)
    artifact_port: int = field(default_factory=free_port)
    worker_port: int = field(default_factory=free_port)
    children: dict[Part, process.Child] = field(default_factory=dict)

    @property
    def options(self) -> list[str]:
        """What a streaming pipeline is run with on this cluster.

        With bundles of Flink's default length, 1 s, checkpoints of 1 s hang at the start: bundles of 100 ms. A bounded
        input ends the job only with `--shutdown_sources_after_idle_ms=0` besides.
        """
        return [
            "--runner=PortableRunner",
            f"--job_endpoint=127.0.0.1:{self.job_port}",
            f"--artifact_endpoint=127.0.0.1:{self.artifact_port}",
            "--environment_type=EXTERNAL",
            f"--environment_config=127.0.0.1:{self.worker_port}",
            "--streaming",
            "--checkpointing_interval=1000",
            "--finish_bundle_before_checkpointing",
            "--max_bundle_time_mills=100",
        ]

    def start(self, part: Part) -> None:
        """Starts one part; its log is PART.log in the folder."""
        command, ready = {
            "job-manager": (self._job_manager, lambda: self._count("slots-total") is not None),
            "task-manager": (self._task_manager, lambda: bool(self._count("slots-available"))),
            "job-server": (self._job_server, process.accepts(self.job_port)),
            "workers": (self._workers, process.accepts(self.worker_port)),
        }[part]
        environment = {
            # The pool starts a bare `python`; of another environment, it would let the job hang in silence.
            "PATH": _before(Path(sys.executable).parent, "PATH"),
            "PYTHONPATH": _before(Path(__file__).parents[1], "PYTHONPATH"),
        }
        self.children[part] = process.start(
            part, command(), self.folder / f"{part}.log", ready, within_s=90, env=environment
        )

    def start_all(self, parts: tuple[Part, ...] = PARTS) -> None:
        """Starts them side by side: each waits for the others by itself."""
        class_path()  # fetched by one of us, not by four
        with ThreadPoolExecutor() as pool:
            list(pool.map(self.start, parts))

    def kill(self, part: Part) -> None:
        """kill -9 of one part, the processes that it has started included."""
        self.children.pop(part).kill()

    def kill_one_worker(self) -> int:
        """kill -9 of one Python worker, which the pool had started for a job; returns its process id."""
        workers = self.workers()
        if not workers:
            raise RuntimeError("no Python worker runs: submit a job first")
        os.kill(workers[0], signal.SIGKILL)
        return workers[0]

    def workers(self) -> list[int]:
        """Process ids of the Python workers that are alive (the pool leaves killed ones unreaped)."""
        return [pid for pid in _children_of(self.children["workers"].pid) if process.alive(pid)]

    def jobs(self) -> dict[str, str]:
        """State (RUNNING, RESTARTING, FINISHED, ...) of each job of the cluster by its Flink id."""
        return {job["jid"]: job["state"] for job in self._get("jobs/overview")["jobs"]}

    def cancel(self, job_id: str) -> None:
        httpx.patch(f"http://127.0.0.1:{self.rest_port}/jobs/{job_id}").raise_for_status()

    def cancel_all(self, within_s: float = 60.0) -> None:
        """Ends every job, so that its slots are free for the next. Raises TimeoutError."""
        deadline = time.monotonic() + within_s
        while running := [id for id, state in self.jobs().items() if state not in ENDED]:
            if time.monotonic() > deadline:
                raise TimeoutError(f"Flink jobs {running} do not end within {within_s:.0f} s")
            for id in running:
                self.cancel(id)
            time.sleep(0.5)

    def close(self) -> None:
        for part in reversed(list(self.children)):
            self.kill(part)

    def configure(self) -> None:
        """Writes Flink's conf/config.yaml."""
        (self.folder / "conf").mkdir(parents=True, exist_ok=True)
        settings = {
            "jobmanager.rpc.address": "127.0.0.1",
            "jobmanager.rpc.port": self.rpc_port,
            "jobmanager.bind-host": "127.0.0.1",
            "taskmanager.host": "127.0.0.1",
            "taskmanager.bind-host": "127.0.0.1",
            "rest.address": "127.0.0.1",
            "rest.bind-address": "127.0.0.1",
            "rest.port": self.rest_port,
            "taskmanager.numberOfTaskSlots": 4,
            "heartbeat.interval": 1000,
            "heartbeat.timeout": 5000,
            "state.checkpoints.dir": (self.folder / "checkpoints").as_uri(),
            "io.tmp.dirs": self.folder / "tmp",
            "restart-strategy.type": "fixed-delay",
            "restart-strategy.fixed-delay.attempts": 20,
            "restart-strategy.fixed-delay.delay": "1 s",
        }
        (self.folder / "tmp").mkdir(exist_ok=True)
        lines = "".join(f"{name}: {value}\n" for name, value in settings.items())
        (self.folder / "conf" / "config.yaml").write_text(lines)

    def _java(self, *arguments: str) -> list[str | Path]:
        return [JAVA.path(), *JVM, f"-Djava.io.tmpdir={self.folder / 'tmp'}", "-cp", class_path(), *arguments]

    def _job_manager(self) -> list[str | Path]:
        main = "org.apache.flink.runtime.entrypoint.StandaloneSessionClusterEntrypoint"
        return self._java("-Xmx700m", QUICK_START, main, "--configDir", str(self.folder / "conf"))

    def _task_manager(self) -> list[str | Path]:
        main = "org.apache.flink.runtime.taskexecutor.TaskManagerRunner"
        memory = (part for name, size in TASK_MANAGER_MEMORY.items() for part in ("-D", f"taskmanager.{name}={size}"))
        limits = ("-Xmx900m", "-XX:MaxDirectMemorySize=700m")
        return self._java(*limits, main, "--configDir", str(self.folder / "conf"), *memory)

    def _job_server(self) -> list[str | Path]:
        return self._java(
            "-Xmx500m",
            QUICK_START,
            str(Path(__file__).with_name("FlinkJobServer.java")),
            f"--job-port={self.job_port}",
            f"--artifact-port={self.artifact_port}",
            "--expansion-port=0",
            f"--flink-master=127.0.0.1:{self.rest_port}",
            f"--artifacts-dir={self.folder / 'artifacts'}",
        )

    def _workers(self) -> list[str | Path]:
        return [*process.python("apache_beam.runners.worker.worker_pool_main", f"--service_port={self.worker_port}")]

    def _count(self, of: str) -> int | None:
        if not answers(self.rest_port):
            return None
        try:
            return self._get("overview")[of]
        except httpx.HTTPError:
            return None

    def _get(self, path: str) -> dict:
        reply = httpx.get(f"http://127.0.0.1:{self.rest_port}/{path}", timeout=10)
        reply.raise_for_status()
        return reply.json()


@contextmanager
def flink(folder: Path) -> Iterator[Flink]:
    """A fresh cluster, gone at the end; up in about 10 s once its jars are in the cache."""
    cluster = Flink(folder)
    cluster.configure()
    try:
        cluster.start_all()
        yield cluster
    finally:
        cluster.close()


def _before(folder: Path, variable: str) -> str:
    return os.pathsep.join(part for part in (str(folder), os.environ.get(variable, "")) if part)


def _children_of(pid: int) -> list[int]:
    """Children of every thread of the process: the pool starts a worker from whichever serves the request."""
    lists = (path.read_text().split() for path in Path(f"/proc/{pid}/task").glob("*/children"))
    return [int(child) for children in lists for child in children]
