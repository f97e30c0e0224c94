"""A server, its replica, and the Sentinel that watches them."""

from __future__ import annotations

import contextlib
import subprocess
import typing as t
from contextlib import ExitStack
from pathlib import Path

import redis

from flask_taskqueue.broker import embedded

from .servers import Server, eventually, free_port

SERVICE = "mymaster"
"""Name the Sentinels know the server by."""

DOWN_AFTER = 1000
"""Milliseconds without an answer after which a server is down."""


class Sentinel:
    """A Sentinel that watches a server, and decides alone.

    :param directory: Where its files go.
    :param server: With a TCP port. It runs.
    """

    def __init__(self, directory: Path, server: Server) -> None:
        self.directory = directory
        self.port = free_port()
        self._watched = server.port
        self._process: subprocess.Popen[bytes] | None = None

    def client(self) -> redis.Redis:
        """A plain client, to be closed by the caller."""
        return redis.Redis(port=self.port, socket_timeout=5)

    def __enter__(self) -> Sentinel:
        self.directory.mkdir(parents=True, exist_ok=True)
        config = self.directory / "sentinel.conf"
        config.write_text(
            f"port {self.port}\nbind 127.0.0.1\ndir {self.directory}\n"
            f"logfile {self.directory / 'sentinel.log'}\n"
            f"sentinel monitor {SERVICE} 127.0.0.1 {self._watched} 1\n"
            f"sentinel down-after-milliseconds {SERVICE} {DOWN_AFTER}\n"
        )
        command = [embedded.binary(), str(config), "--sentinel"]
        self._process = subprocess.Popen(command, start_new_session=True)
        try:
            with self.client() as client:
                eventually(lambda: _answers(client), message="the Sentinel answers")
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *exc_info: object) -> None:
        assert self._process is not None
        self._process.kill()
        self._process.wait(10)


def _answers(client: redis.Redis) -> bool:
    with contextlib.suppress(redis.ConnectionError):
        return bool(client.ping())
    return False


class Pair:
    """A master with one replica, to be entered as a context.

    In place of one :class:`.servers.Server` where only its URL and its clients count.

    :param directory: Where data goes.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        at_once = "repl-diskless-sync-delay 0"
        self.master = Server(directory / "master", tcp=True, config=[at_once])
        replica_of = f"replicaof 127.0.0.1 {self.master.port}"
        self.replica = Server(directory / "replica", tcp=True, config=[replica_of])
        self._sentinel = Sentinel(directory / "sentinel", self.master)
        self._exits = ExitStack()

    @property
    def url(self) -> str:
        """For ``TASKQUEUE_URL``."""
        return f"redis+sentinel://127.0.0.1:{self._sentinel.port}/{SERVICE}/0"

    def client(self) -> redis.Redis:
        """A client of whichever is the master; to be closed by the caller."""
        sentinel = redis.Sentinel([("127.0.0.1", self._sentinel.port)])
        return t.cast(redis.Redis, sentinel.master_for(SERVICE, socket_timeout=5))

    def __enter__(self) -> Pair:
        with ExitStack() as exits:
            for each in (self.master, self.replica, self._sentinel):
                exits.enter_context(each)
            asked: t.Any = exits.enter_context(self._sentinel.client())
            # It looks more often than every 10 s, so that tests are short; and it
            # waits four of the other periods until it demotes a master that is back.
            periods = ("info-period", "200", "publish-period", "200")
            asked.execute_command("SENTINEL", "DEBUG", *periods)
            eventually(lambda: _knows_a_replica(asked), message="it knows the replica")
            self._exits = exits.pop_all()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._exits.close()

    def is_promoted(self) -> bool:
        """Whether the replica has become the master, and the Sentinel says so."""
        with self._sentinel.client() as asked:
            found: t.Any = asked.sentinel_get_master_addr_by_name(SERVICE)
        return bool(found[1] == self.replica.port)

    def is_demoted(self) -> bool:
        """Whether the master that was lost is back, as a replica of the other."""
        with self.master.client() as client:
            try:
                found: t.Any = client.info("replication")
            except redis.ConnectionError:
                return False  # All clients of one that is demoted are cut off.
        return bool(found["role"] == "slave" and found["master_link_status"] == "up")


def _knows_a_replica(asked: t.Any) -> bool:
    state = asked.sentinel_master(SERVICE)
    replicas = asked.sentinel_slaves(SERVICE)
    return state["num-slaves"] == 1 and replicas[0]["master-link-status"] == "ok"
