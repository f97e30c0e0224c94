"""A server that refuses, hangs, or cuts all off, under load: each measured."""

from __future__ import annotations

import signal
import threading
import time
import typing as t
from collections.abc import Callable, Iterator

import pytest
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from flask_taskqueue.worker.asking import STAMP_MOST
from flask_taskqueue.worker.upkeep import RENEW_EVERY

from ..servers import Server, eventually, free_port
from .going_on import TOLD_WITHIN, WITHIN, Load
from .producer import Call
from .stage import LONG, Stage

Say = t.Callable[[str], None]
Trouble = Callable[[Server, t.Any], None]

LASTS = 12.0 if LONG else 1.2
"""Seconds a trouble lasts; in the long lane that is longer than a lease."""

WRITES = 8000
"""In the append-only file, so that it takes long to read."""


@pytest.fixture(scope="module")
def load(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Load]:
    """One worker and one beat, which go through all of it."""
    path = tmp_path_factory.mktemp("trouble")
    with Server(path / "server", tcp=True) as server:
        with Stage(path, server=server) as stage:
            yield Load(stage)


def lasting(act: Callable[[], object] = lambda: None) -> None:
    """For as long as a trouble lasts, do something again and again."""
    until = time.monotonic() + LASTS

    def is_over() -> bool:
        act()
        return time.monotonic() > until

    eventually(is_over, 3 * LASTS)


def cuts_all_off(server: Server, client: t.Any) -> None:
    def cut() -> None:
        for kind in ("normal", "pubsub"):
            client.client_kill_filter(_type=kind, skipme=True)

    lasting(cut)


def forgets_its_scripts(server: Server, client: t.Any) -> None:
    lasting(client.script_flush)


def pauses(server: Server, client: t.Any) -> None:
    client.execute_command("CLIENT", "PAUSE", int(LASTS * 1000), "ALL")
    lasting()
    client.ping()


def pauses_writes(server: Server, client: t.Any) -> None:
    client.execute_command("CLIENT", "PAUSE", int(LASTS * 1000), "WRITE")
    lasting()
    client.delete("nothing")


def hangs(server: Server, client: t.Any) -> None:
    assert server.process is not None
    server.process.send_signal(signal.SIGSTOP)
    lasting()
    server.process.send_signal(signal.SIGCONT)


def is_killed(server: Server, client: t.Any) -> None:
    server.kill()
    lasting()
    server.start()


def loads_its_file(server: Server, client: t.Any) -> None:
    with client.pipeline(transaction=False) as pipe:
        for _ in range(WRITES):
            pipe.incr("writes")
        pipe.delete("writes")
        pipe.execute()
    usual = server.config
    server.config += ("key-load-delay 100",)
    server.kill()
    starts = threading.Thread(target=server.start)
    starts.start()
    eventually(lambda: is_loading(server))
    starts.join()
    server.config = usual


def is_loading(server: Server) -> bool:
    """Whether it says so. Asked once, as it is over soon."""
    once = Retry(NoBackoff(), 0)
    with redis.Redis.from_url(server.url, retry=once) as client:
        try:
            client.get("nothing")
        except redis.BusyLoadingError:
            return True
        except redis.ConnectionError:
            return False
    return False


def is_demoted(server: Server, client: t.Any) -> None:
    # A replica of nobody: its clients stay connected.
    client.replicaof("127.0.0.1", str(free_port()))
    lasting()
    client.replicaof("NO", "ONE")


def lost_its_master(server: Server, client: t.Any) -> None:
    client.config_set("replica-serve-stale-data", "no")
    is_demoted(server, client)


def lacks_replicas(server: Server, client: t.Any) -> None:
    client.config_set("min-replicas-to-write", "1")
    lasting()
    client.config_set("min-replicas-to-write", "0")


def is_full(server: Server, client: t.Any) -> None:
    client.config_set("maxmemory", "1")
    lasting()
    client.config_set("maxmemory", "0")


def cannot_write_its_file(server: Server, client: t.Any) -> None:
    in_the_way = server.directory / "dump.rdb"
    in_the_way.mkdir()
    client.config_set("save", "3600 1000000")
    client.bgsave()
    eventually(lambda: last_save(client) == "err")
    lasting()
    in_the_way.rmdir()
    client.bgsave()
    eventually(lambda: last_save(client) == "ok")
    client.config_set("save", "")


def last_save(client: t.Any) -> str:
    found = client.info("persistence")
    return "" if found["rdb_bgsave_in_progress"] else found["rdb_last_bgsave_status"]


def has_another_password(server: Server, client: t.Any) -> None:
    # Who is connected stays so.
    client.config_set("requirepass", "another")
    cuts_all_off(server, client)
    client.config_set("requirepass", "")


REFUSES: tuple[Trouble, ...] = (
    is_killed, loads_its_file, is_demoted, lost_its_master, lacks_replicas, is_full,
    cannot_write_its_file, has_another_password,
)  # fmt: skip
"""What keeps a producer from enqueueing; the others may only hold it up."""

HOLDS_UP: tuple[Trouble, ...] = (
    cuts_all_off, forgets_its_scripts, pauses, pauses_writes, hangs
)  # fmt: skip


@pytest.mark.parametrize("trouble", [*REFUSES, *HOLDS_UP], ids=lambda one: one.__name__)
def test_all_go_on_after_a_server(load: Load, say: Say, trouble: Trouble):
    stage = load.stage
    with load.running() as producer:
        refused = len(producer.refused)
        trouble(stage.server, stage.client)
        over = time.monotonic()
        told = len(producer.refused) - refused
        went_on = load.measure(producer, over)
        calls = load.end(producer)
    say(
        f"a server that {trouble.__name__.replace('_', ' ')}: {went_on}; {told} calls"
        f" refused, the slowest took {producer.slowest:.2f} s"
    )
    assert max(went_on) < WITHIN
    assert told or trouble not in REFUSES
    assert producer.slowest < TOLD_WITHIN
    stage.assert_each_once(calls)
    load.assert_unharmed()


@pytest.mark.skipif(not LONG, reason="takes 15 s; see conftest.py")
def test_a_worker_that_cannot_keep_its_leases_takes_no_more(stage: Stage, say: Say):
    calls = [Call("work", n, seconds=0.01) for n in range(4000)]
    stage.make(calls)
    worker = stage.worker("-c", "2")
    eventually(stage.ledger.runs)
    # Where the worker's record is to be.
    (name,) = stage.client.smembers("rq:workers")
    stage.client.set(name, "something else")
    refused_at = time.monotonic()
    worker.await_line("No connection to")
    eventually(lambda: time.monotonic() > refused_at + 12, 15)
    took = stage.ledger.runs()[-1].began - refused_at
    say(f"a worker that cannot renew its leases began its last job after {took:.1f} s")
    assert took < RENEW_EVERY + STAMP_MOST + 3
    stage.client.delete(name)
    stage.audit.await_end(40)
    stage.assert_each_once(calls)
    assert worker.stop() == 0
