"""A private server, and the CPUs that it and its clients use."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import time
import typing as t
from collections.abc import Iterator
from pathlib import Path

import redis

from flask_taskqueue.broker import embedded, guardian

ENVIRONMENT = "BENCH_URL"
"""Environment variable with its URL, for peers."""

PLACEMENTS = {
    "unpinned": "unpinned",
    "two": "server and worker on a CPU each",
    "one": "all on one CPU",
}


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


class Server:
    """A server that keeps nothing over its end; ``with`` runs it.

    :param folder: Where its socket is, and its append-only file.
    :param tcp: Listen on a port of the loopback instead of the socket.
    """

    def __init__(self, folder: Path, *, tcp: bool = False) -> None:
        folder.mkdir(exist_ok=True)
        self.folder = folder
        self.tcp = tcp
        self._port = _free_port() if tcp else 0

    @property
    def url(self) -> str:
        """For ``TASKQUEUE_URL``."""
        if self.tcp:
            return f"redis://127.0.0.1:{self._port}/0"
        return f"unix://{self.folder / 's'}"

    def __enter__(self) -> Server:
        address = ["--port", str(self._port), "--bind", "127.0.0.1"]
        if not self.tcp:
            address += ["--unixsocket", str(self.folder / "s")]
        kept = ["--save", "", "--appendonly", "no"]
        command = [embedded.binary(), *address, *kept]
        self._process = subprocess.Popen(
            command,
            stdout=subprocess.DEVNULL,
            cwd=self.folder,
            # As the extension starts its own.
            env=guardian.environment(),
        )
        # Any: redis-py's answers are typed for clients of both kinds.
        self.client: t.Any = redis.Redis.from_url(self.url)
        while not self._answers():
            time.sleep(0.01)
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.client.close()
        self._process.kill()
        self._process.wait()

    def _answers(self) -> bool:
        with contextlib.suppress(redis.ConnectionError):
            return bool(self.client.ping())
        assert self._process.poll() is None, "the server ended"
        return False

    @contextlib.contextmanager
    def append_only(self, wanted: bool) -> Iterator[None]:
        """Keep an append-only file, synced every second, meanwhile."""
        if not wanted:
            yield
            return
        self.client.config_set("appendonly", "yes")
        while self.client.info("persistence")["aof_rewrite_in_progress"]:
            time.sleep(0.01)
        try:
            yield
        finally:
            self.client.config_set("appendonly", "no")

    def version(self) -> str:
        """What it is, such as ``valkey 9.1.0``."""
        found = self.client.info("server")
        name = found.get("server_name", "redis")
        return f"{name} {found.get(f'{name}_version', found['redis_version'])}"

    def commands(self) -> int:
        """Commands so far, those in scripts too, but for those that ask this."""
        stats = self.client.info("commandstats")
        return sum(row["calls"] for key, row in stats.items() if key != "cmdstat_info")

    def used_memory(self) -> int:
        """Bytes its data takes."""
        return int(self.client.info("memory")["used_memory"])

    @contextlib.contextmanager
    def placed(self, placement: str) -> Iterator[None]:
        """Pin it and this process, whose workers inherit that, meanwhile.

        :param placement: A key of :data:`PLACEMENTS`.
        """
        if placement == "unpinned":
            yield
            return
        cpus = sorted(os.sched_getaffinity(0))
        self._pin({cpus[0]})
        os.sched_setaffinity(0, {cpus[-1 if placement == "two" else 0]})
        try:
            yield
        finally:
            self._pin(set(cpus))
            os.sched_setaffinity(0, cpus)

    def _pin(self, cpus: set[int]) -> None:
        for thread in Path(f"/proc/{self._process.pid}/task").iterdir():
            os.sched_setaffinity(int(thread.name), cpus)
