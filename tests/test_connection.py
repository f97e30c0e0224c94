"""URLs, clients and held connections, on real servers."""

from __future__ import annotations

import os
import select
import signal
import socket
import subprocess
import sys
import threading
import time
import typing as t
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import redis
from redis.connection import DefaultParser

from flask_taskqueue.broker.connection import (
    Backoff,
    BlockingCall,
    Broker,
    Subscription,
    ask,
    check_server,
    is_connection_trouble,
)
from flask_taskqueue.broker.url import mask
from flask_taskqueue.errors import BrokerUnavailable, ConfigError, ResultTimeout

from .sentinels import Sentinel
from .servers import Server, eventually, free_port

# URLs


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        pytest.param("redis://h", {"host": "h"}, id="host"),
        pytest.param("redis://127.0.0.1", {"host": "127.0.0.1"}, id="ip"),
        pytest.param("redis://", {}, id="all-defaults"),
        pytest.param("redis://[::1]:7/2", {"host": "::1", "port": 7, "db": 2}, id="v6"),
        pytest.param(
            "redis://me:p%40ss@h:7/2",
            {"username": "me", "password": "p@ss", "host": "h", "port": 7, "db": 2},
            id="everything",
        ),
        pytest.param("rediss://h?ssl_cert_reqs=none", {"host": "h"}, id="tls"),
        pytest.param("unix:///run/s?db=3", {"path": "/run/s", "db": 3}, id="unix"),
        pytest.param("unix://:pw@/run/s", {"password": "pw"}, id="unix-password"),
    ],
)
def test_url_is_read(url, expected):
    with_all = Broker(url).producer.connection_pool.connection_kwargs
    assert {name: with_all[name] for name in expected} == expected


def test_tls_url_makes_tls_connections():
    pool = Broker("rediss://h").producer.connection_pool
    assert pool.connection_class is redis.SSLConnection


def test_url_does_not_change_time_outs():
    pool = Broker("redis://h?socket_timeout=60").producer.connection_pool
    assert pool.connection_kwargs["socket_timeout"] == 1


@pytest.mark.parametrize(
    "url",
    [
        pytest.param("amqp://guest:secret@h//", id="amqp"),
        pytest.param("sqs://", id="sqs"),
        pytest.param("localhost:6379", id="no-scheme"),
        pytest.param("", id="empty"),
    ],
)
def test_another_broker_is_refused(url):
    with pytest.raises(ConfigError, match="TASKQUEUE_URL.*Redis or Valkey") as caught:
        Broker(url)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    "url",
    [
        pytest.param("redis://:secret@h:port", id="port"),
        pytest.param("redis://:secret@h:70000", id="port-range"),
        pytest.param("redis://:sec/secret@h", id="slash-in-password"),
        pytest.param("redis://:secret@h/mail", id="db"),
        pytest.param("redis://h?password=secret&db=x", id="db-option"),
        pytest.param("redis://h?decode_responses=True", id="decode-responses"),
        pytest.param("redis://h?protocol=3", id="protocol"),
        pytest.param("unix://:secret@", id="unix-path"),
        pytest.param("redis+sentinel://:secret@h1:1,h2:2", id="sentinel-service"),
        pytest.param("redis+sentinel://:secret@h1:x/service", id="sentinel-port"),
        pytest.param("redis+sentinel://,h2/service", id="sentinel-host"),
        pytest.param("redis+sentinel://h/service/x", id="sentinel-db"),
        pytest.param("embedded://", id="embedded-nowhere"),
        pytest.param("embedded://relative/dir", id="embedded-relative"),
    ],
)
def test_bad_url_is_a_config_error_without_the_password(url):
    with pytest.raises(ConfigError, match="expected 'TASKQUEUE_URL' to be ") as caught:
        Broker(url)
    assert "secret" not in str(caught.value)
    assert caught.value.__cause__ is None or "@" not in url


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("redis://h:abc", "the port is no number from 1 to 65535"),
        ("redis://h:0", "the port is no number from 1 to 65535"),
        ("redis://:pw@h:70000", "the port is no number from 1 to 65535"),
        ("redis+sentinel://h1:x/s", "the port is no number from 1 to 65535"),
        ("redis://h/mail", "the database is no number"),
        ("redis+sentinel://h1", "there is no service"),
        ("redis+sentinel://,h2/s", "there is no host"),
        ("unix://", "there is no path"),
        ("redis://h?protocol=3", "the option protocol is not accepted"),
    ],
)
def test_a_bad_url_is_told_what_is_wrong_with_it(url: str, reason: str):
    with pytest.raises(ConfigError) as caught:
        Broker(url)
    assert f": {reason}" in str(caught.value)
    assert ("option" in str(caught.value)) == ("option" in reason)


def test_a_database_the_server_lacks_is_a_config_error(own_server: Server):
    url = own_server.url.removesuffix("/0") + "/99"
    text = "'TASKQUEUE_URL' to name a database that the server has, got 99"
    broker = Broker(url)
    with pytest.raises(ConfigError, match=text), broker.errors():
        broker.producer.ping()
    with pytest.raises(ConfigError, match=text):
        check_server(broker.worker())
    broker.close()


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        pytest.param("redis://h:1/0", "redis://h:1/0", id="none"),
        pytest.param("redis://me:pw@h", "redis://me:***@h", id="user"),
        pytest.param("redis://:pw@h", "redis://:***@h", id="password-only"),
        pytest.param("redis://:p@w/?@h/1", "redis://:***@h/1", id="not-escaped"),
        pytest.param(
            "redis+sentinel://u:pw@h1:1,h2:2/m/0?sentinel_password=pw2&db=1",
            "redis+sentinel://u:***@h1:1,h2:2/m/0?sentinel_password=***&db=1",
            id="sentinel",
        ),
        pytest.param(
            "unix:///s?password=pw&db=1", "unix:///s?password=***&db=1", id="option"
        ),
    ],
)
def test_passwords_are_masked(url, expected):
    assert mask(url) == expected


# Redis that is away


@pytest.fixture
def black_hole() -> t.Iterator[int]:
    """Port of a listener that accepts and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener.getsockname()[1]


def urls_of_nothing(port: int, hole: int) -> dict[str, str]:
    sentinels = ",".join(f"127.0.0.1:{hole}" for _ in range(3))
    urls = {
        "refused": f"redis://:secret@127.0.0.1:{port}/0",
        "black-hole": f"redis://:secret@127.0.0.1:{hole}/0",
        "no-socket": "unix://:secret@/nowhere/socket",
        "refused-sentinels": f"redis+sentinel://:secret@127.0.0.1:{port}/m/0",
        "black-hole-sentinels": f"redis+sentinel://:secret@{sentinels}/m/0",
    }
    if redis.__version__.startswith("5."):
        # Leaves the socket open when it cannot connect: warnings are errors here.
        del urls["no-socket"]
    return urls


@pytest.mark.parametrize("purpose", ["producer", "monitor"])
@pytest.mark.parametrize("case", urls_of_nothing(0, 0))
def test_broker_unavailable_within_two_seconds(case, purpose, black_hole):
    broker = Broker(urls_of_nothing(free_port(), black_hole)[case])
    client = getattr(broker, purpose)
    start = time.monotonic()
    with pytest.raises(BrokerUnavailable) as caught, broker.errors():
        client.set("key", "value")
    assert time.monotonic() - start < 2
    assert str(caught.value).startswith(f"{broker.masked_url}: ")
    assert "secret" not in str(caught.value)
    broker.close()


def test_a_pipeline_fails_within_two_seconds_too(black_hole):
    broker = Broker(f"redis://127.0.0.1:{black_hole}")
    start = time.monotonic()
    with pytest.raises(BrokerUnavailable), broker.errors():
        broker.producer.pipeline().set("key", "value").execute()
    assert time.monotonic() - start < 2


def reply(text: str) -> Exception:
    """What redis-py makes of an error reply."""
    error = DefaultParser.parse_error(text)
    assert isinstance(error, Exception)
    return error


def in_pipeline(error: Exception) -> Exception:
    """The same, as a pipeline words it."""
    error.args = (f"Command # 1 (SET a 1) of pipeline caused error: {error}",)
    return error


TROUBLE = {
    "connection": redis.ConnectionError("gone"),
    "time-out": redis.TimeoutError("slow"),
    "os": ConnectionResetError("reset"),
    "unavailable": BrokerUnavailable("redis://h: gone"),
    "loading": reply("LOADING Redis is loading the dataset in memory"),
    "readonly": reply("READONLY You can't write against a read only replica."),
    "masterdown": reply("MASTERDOWN Link with MASTER is down"),
    "noreplicas": reply("NOREPLICAS Not enough good replicas to write."),
    "unblocked": reply("UNBLOCKED client unblocked via CLIENT UNBLOCK"),
    "tryagain": reply("TRYAGAIN Multiple keys request during rehashing of slot"),
    "unauthenticated": reply("ERR Protocol error: unauthenticated multibulk length"),
    "in-pipeline": in_pipeline(reply("NOREPLICAS Not enough good replicas.")),
}
FULL = {
    "oom": reply("OOM command not allowed when used memory > 'maxmemory'."),
    "misconf": reply("MISCONF Errors writing to the AOF file: No space left"),
    "busy": reply("BUSY Redis is busy running a script."),
}
OTHER = {
    "response": reply("ERR syntax error"),
    "type": reply("WRONGTYPE Operation against a key"),
    "permission": reply("NOPERM this user has no permissions"),
    "data": redis.DataError("not a string"),
    "value": ValueError("READONLY"),
}


@pytest.mark.parametrize("error", TROUBLE.values(), ids=TROUBLE)
def test_trouble_drops_the_connection(error):
    assert is_connection_trouble(error)


@pytest.mark.parametrize(
    "error", [*FULL.values(), *OTHER.values()], ids=[*FULL, *OTHER]
)
def test_other_errors_keep_the_connection(error):
    assert not is_connection_trouble(error)


@pytest.mark.parametrize(
    "error", [*TROUBLE.values(), *FULL.values()], ids=[*TROUBLE, *FULL]
)
def test_errors_are_raised_as_broker_unavailable(error):
    with pytest.raises(BrokerUnavailable, match=r"redis://h") as caught:
        with Broker("redis://h").errors():
            raise error
    assert str(error) in str(caught.value)


@pytest.mark.parametrize(
    "error", [*OTHER.values(), ResultTimeout("late")], ids=[*OTHER, "ours"]
)
def test_errors_leaves_others_alone(error):
    with pytest.raises(type(error)) as caught, Broker("redis://h").errors():
        raise error
    assert caught.value is error


def test_a_full_server_is_unavailable(tmp_path):
    with Server(tmp_path, config=["maxmemory 1kb"]) as server:
        broker = Broker(server.url)
        with pytest.raises(BrokerUnavailable, match="memory"), broker.errors():
            broker.producer.set("key", "value")
        broker.close()


def test_backoff_doubles_up_to_its_limit_and_begins_anew():
    bounds = []

    def draw(low: float, high: float) -> float:
        bounds.append((low, high))
        return high

    backoff = Backoff(draw=draw)
    waits = [backoff.next() for _ in range(7)]
    assert waits == [0.1, 0.2, 0.4, 0.8, 1.6, 2.0, 2.0]
    assert {low for low, _ in bounds} == {0.05}
    backoff.reset()
    assert backoff.next() == 0.1


def test_backoff_stays_within_its_limits():
    backoff = Backoff()
    assert all(0.05 <= backoff.next() <= 2 for _ in range(100))


# Clients


@pytest.fixture
def broker(redis_url: str) -> t.Iterator[Broker]:
    broker = Broker(redis_url)
    yield broker
    broker.close()


def test_nothing_is_connected_before_it_is_used(broker, client):
    before = len(client.client_list())
    clients = [broker.producer, broker.monitor, broker.waiter, broker.worker()]
    assert len(client.client_list()) == before
    assert all(each.ping() for each in clients)
    assert len(client.client_list()) == before + len(clients)
    clients.pop().connection_pool.disconnect()
    broker.close()
    eventually(lambda: len(client.client_list()) == before)


def test_a_closed_broker_connects_again(broker):
    assert broker.producer.ping()
    broker.close()
    assert broker.producer.ping()


def test_closing_a_broker_leaves_the_call_of_another_thread_alone(broker, client):
    with ThreadPoolExecutor(1) as threads:
        call = threads.submit(broker.waiter.blpop, "list", 5)
        eventually(lambda: client.info("clients")["blocked_clients"])
        broker.close()
        client.rpush("list", "value")
        assert call.result(5) == (b"list", b"value")


def test_a_new_connection_costs_no_extra_commands(broker, client):
    client.config_resetstat()
    broker.producer.ping()
    commands = {name.partition("|")[0] for name in client.info("commandstats")}
    assert commands <= {
        f"cmdstat_{name}" for name in ("config", "info", "hello", "ping")
    }


def test_replies_are_bytes(broker):
    broker.producer.hset("key", "field", "value")
    assert broker.producer.hgetall("key") == {b"field": b"value"}


def test_threads_share_one_client(broker):
    barrier = threading.Barrier(8)

    def use() -> redis.Redis:
        barrier.wait()
        producer = broker.producer
        producer.incr("count")
        return producer

    with ThreadPoolExecutor(8) as threads:
        found = [future.result() for future in [threads.submit(use) for _ in range(8)]]
    assert len(set(map(id, found))) == 1
    assert broker.producer.get("count") == b"8"


def test_each_worker_client_is_new(broker):
    first, second = broker.worker(), broker.worker()
    assert first.client_id() != second.client_id()
    first.close()
    second.close()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_forked_child_gets_new_clients(broker):
    mine = broker.producer
    identity = mine.client_id()
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            theirs = broker.producer
            found = f"{theirs is mine} {theirs.client_id() == identity}"
            os.write(writer, found.encode())
        finally:
            os._exit(0)
    os.waitpid(child, 0)
    assert os.read(reader, 100) == b"False False"
    assert broker.producer is mine
    assert mine.client_id() == identity
    os.close(reader)
    os.close(writer)


def client_for(broker: Broker, purpose: str) -> redis.Redis:
    found = getattr(broker, purpose)
    return found if isinstance(found, redis.Redis) else found()


@pytest.mark.parametrize(("purpose", "within"), [("supervisor", 1.5), ("worker", 3)])
def test_a_server_that_hangs_is_given_up_in_time(own_server, purpose, within):
    client = client_for(Broker(own_server.url), purpose)
    assert client.ping()
    assert own_server.process is not None
    own_server.process.send_signal(signal.SIGSTOP)
    begun = time.monotonic()
    with pytest.raises(redis.TimeoutError):
        client.ping()
    assert time.monotonic() - begun < within
    own_server.process.send_signal(signal.SIGCONT)
    assert client.ping()
    client.close()


# A reply that is long in coming


def test_a_reply_may_take_longer_than_the_client_waits_otherwise(broker):
    waiter = broker.waiter
    patience = waiter.connection_pool.connection_kwargs["socket_timeout"]
    begun = time.monotonic()
    assert ask(waiter, patience + 5, ("BLPOP", "a", patience + 0.3)) == [None]
    assert time.monotonic() - begun > patience


def test_a_reply_that_comes_is_returned_at_once(broker, client):
    with ThreadPoolExecutor(8) as threads:
        waiting = [
            threads.submit(ask, broker.waiter, 10, ("BLPOP", f"l{n}", 10))
            for n in range(8)
        ]
        eventually(lambda: client.info("clients")["blocked_clients"] == 8)
        for n in range(8):
            client.rpush(f"l{n}", n)
        replies = [future.result() for future in waiting]
    assert replies == [[[b"l%d" % n, b"%d" % n]] for n in range(8)]


def test_a_late_reply_is_not_the_next_commands(broker, client):
    waiter = broker.waiter
    with pytest.raises(redis.TimeoutError, match=r"0\.1 s"):
        ask(waiter, 0.1, ("BLPOP", "a", 10), ("PING",))
    client.rpush("a", "late")
    assert ask(waiter, 5, ("ECHO", "1"), ("ECHO", "2")) == [b"1", b"2"]
    refused, answered = ask(waiter, 5, ("GET", "a"), ("ECHO", "3"))
    assert "WRONGTYPE" in str(refused)
    assert answered == b"3"
    assert ask(waiter, 5, ("PING",)) == [b"PONG"]


def test_a_wait_ends_with_its_connection(broker, client):
    with ThreadPoolExecutor(1) as threads:
        waiting = threads.submit(ask, broker.waiter, 10, ("BLPOP", "a", 10))
        eventually(lambda: client.info("clients")["blocked_clients"])
        client.client_kill_filter(_type="normal", skipme=True)
        with pytest.raises(redis.ConnectionError):
            waiting.result()
    assert ask(broker.waiter, 5, ("PING",)) == [b"PONG"]


class Gate:
    """A way to a server that can lose replies, and lead to another one from now on.

    :param lose: How many replies to lose, each with its connection.
    :param pause: Seconds it rests after each 64 KiB.
    """

    def __init__(self, server: Server, lose: int = 0, pause: float = 0.0) -> None:
        self.lose = lose
        self.server = server
        self._pause = pause
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"redis://127.0.0.1:{self._listener.getsockname()[1]}"
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._accept)

    def __enter__(self) -> Gate:
        self._thread.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._stop.set()
        self._thread.join()
        self._listener.close()

    def _accept(self) -> None:
        while not self._stop.is_set():
            if select.select([self._listener], [], [], 0.05)[0]:
                with self._listener.accept()[0] as inner:
                    with socket.socket(socket.AF_UNIX) as outer:
                        outer.connect(str(self.server.socket))
                        self._carry(inner, outer)

    def _carry(self, inner: socket.socket, outer: socket.socket) -> None:
        while not self._stop.is_set():
            for source in select.select([inner, outer], [], [], 0.05)[0]:
                data = source.recv(65536)
                # Integers are the replies to INCR; what greets is let through.
                if self.lose and source is outer and data.startswith(b":"):
                    self.lose -= 1
                    return
                if not data:
                    return
                (inner if source is outer else outer).sendall(data)
                self._stop.wait(self._pause * len(data) / 65536)


@pytest.mark.parametrize(
    ("purpose", "lost", "sent", "fails"),
    [
        pytest.param("producer", 1, 2, False, id="producer-repeats"),
        pytest.param("producer", 9, 2, True, id="producer-repeats-once"),
        pytest.param("monitor", 1, 2, False, id="monitor-repeats"),
        pytest.param("waiter", 1, 1, True, id="waiter-does-not"),
        pytest.param("worker", 1, 1, True, id="worker-does-not"),
        pytest.param("supervisor", 1, 1, True, id="supervisor-does-not"),
    ],
)
def test_a_lost_reply(server, client, purpose, lost, sent, fails):
    with Gate(server, lose=lost) as gate:
        broker = Broker(gate.url)
        user = client_for(broker, purpose)
        try:
            assert user.incr("count") == sent
        except redis.ConnectionError:
            assert fails
        else:
            assert not fails
        user.connection_pool.disconnect()
    assert client.get("count") == str(sent).encode()


# The first of redis-py 5 has no class for MASTERDOWN.
KNOWS_MASTERDOWN = isinstance(reply("MASTERDOWN"), redis.exceptions.MasterDownError)


@pytest.mark.parametrize("stale_data", ["yes", "no"][: 1 + KNOWS_MASTERDOWN])
@pytest.mark.parametrize("purpose", ["producer", "monitor", "exchange"])
def test_a_call_to_a_demoted_server_is_sent_to_the_one_that_replaced_it(
    server: Server,
    client: redis.Redis,
    own_server: Server,
    purpose: str,
    stale_data: str,
):
    with Gate(own_server) as gate, own_server.client() as demoted:
        broker = Broker(gate.url)
        user = getattr(broker, purpose)
        assert user.eval("return redis.call('INCR', 'old')", 0) == 1
        # A replica of nobody; its clients stay connected.
        demoted.config_set("replica-serve-stale-data", stale_data)
        demoted.replicaof("127.0.0.1", str(free_port()))
        gate.server = server
        assert user.eval("return redis.call('INCR', 'new')", 0) == 1
        broker.close()
    assert client.get("new") == b"1"


@pytest.mark.parametrize(
    "purpose", ["producer", "monitor", "waiter", "worker", "supervisor"]
)
def test_an_idle_connection_that_was_closed_is_replaced(broker, client, purpose):
    user = client_for(broker, purpose)
    client.client_kill_filter(_id=user.client_id())
    assert user.ping()
    user.connection_pool.disconnect()


def test_a_restarted_server_is_found_again(own_server):
    broker = Broker(own_server.url)
    broker.producer.set("kept", "1")
    own_server.kill()
    with pytest.raises(BrokerUnavailable), broker.errors():
        broker.producer.get("kept")
    own_server.start()
    assert broker.producer.get("kept") == b"1"
    broker.close()


def test_password_and_database_of_the_url(tmp_path):
    with Server(tmp_path, tcp=True, config=["requirepass secret"]) as server:
        place = server.url.removeprefix("redis://").removesuffix("/0")
        broker = Broker(f"redis://:secret@{place}/3")
        assert broker.producer.client_info()["db"] == 3
        broker.close()
        for wrong in (Broker(f"redis://{place}"), Broker(f"redis://:no@{place}")):
            with pytest.raises(BrokerUnavailable), wrong.errors():
                wrong.producer.ping()
            with pytest.raises(BrokerUnavailable), wrong.errors():
                wrong.exchange.eval("return 1", 0, *range(20))
            wrong.close()


# Sentinel


@pytest.fixture
def sentinel_port(tmp_path: Path) -> t.Iterator[int]:
    """Port of a Sentinel that watches a server as ``mymaster``."""
    with Server(tmp_path / "server", tcp=True) as server:
        with Sentinel(tmp_path / "sentinel", server) as sentinel:
            yield sentinel.port


def test_sentinel_leads_to_the_server(sentinel_port):
    # The first Sentinel is away.
    hosts = f"127.0.0.1:{free_port()},127.0.0.1:{sentinel_port}"
    broker = Broker(f"redis+sentinel://{hosts}/mymaster/2")
    worker = broker.worker()
    with broker.errors():
        for client in (broker.producer, broker.monitor, broker.waiter, worker):
            assert client.client_info()["db"] == 2
    call = BlockingCall(worker)
    call.connect()
    call.send("PING")
    assert call.read() == b"PONG"
    call.close()
    worker.close()
    broker.close()


def test_sentinel_of_another_service_is_unavailable(sentinel_port):
    broker = Broker(f"redis+sentinel://127.0.0.1:{sentinel_port}/other")
    with pytest.raises(BrokerUnavailable, match="other"), broker.errors():
        broker.producer.ping()
    broker.close()


# The embedded server


EMBEDDED = """
import os, signal, sys
import redis
from flask_taskqueue.broker.connection import Broker

def incr(client):
    # As a worker's loop does: what was on its way when the server died is lost.
    for attempt in range(5):
        try:
            return client.incr("count")
        except redis.ConnectionError:
            pass

broker = Broker(f"embedded://{sys.argv[1]}")
worker = broker.worker()
assert not os.path.exists(sys.argv[1]), "started before it was used"
assert worker.incr("count") == 1
for number, client in ((2, worker), (3, broker.producer)):
    os.kill(client.info("server")["process_id"], signal.SIGKILL)
    assert incr(client) == number
print(broker.masked_url)
"""


def test_embedded_server_is_started_and_found_again(tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", EMBEDDED, str(tmp_path / "data")],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert done.stdout.strip() == f"embedded://{tmp_path}/data", done.stderr


# What a server must be


def test_a_usual_server_passes(client):
    assert check_server(client) == []


@pytest.mark.parametrize(
    ("config", "warning"),
    [
        pytest.param("maxmemory-policy volatile-lru", "volatile-lru", id="volatile"),
        pytest.param("appendonly no", "append-only file", id="no-append-only-file"),
    ],
)
def test_a_server_that_may_lose_something_warns(tmp_path, config, warning):
    with Server(tmp_path, config=[config]) as server, server.client() as client:
        [text] = check_server(client)
        assert warning in text


@pytest.mark.parametrize(
    ("config", "message"),
    [
        pytest.param("maxmemory-policy allkeys-lru", "allkeys-lru", id="allkeys"),
        pytest.param("cluster-enabled yes", "Redis Cluster", id="cluster"),
    ],
)
def test_a_server_that_loses_jobs_is_refused(tmp_path, config, message):
    with Server(tmp_path, config=[config]) as server, server.client() as client:
        with pytest.raises(ConfigError, match=message):
            check_server(client)


class Told(redis.Redis):
    """A client whose server says it is another: old ones are hard to come by."""

    told: t.ClassVar[dict[str, object]]

    def info(self, *args: t.Any, **kwargs: t.Any) -> t.Any:
        return {"redis_mode": "standalone", "aof_enabled": 1, **self.told}


@pytest.mark.parametrize(
    ("told", "refused"),
    [
        pytest.param({"redis_version": "6.2.14"}, True, id="redis-6.2"),
        pytest.param({"redis_version": "7.0.0"}, False, id="redis-7.0"),
        pytest.param({"redis_version": "8.2"}, False, id="redis-8.2"),
        pytest.param({"redis_version": "10.0.1"}, False, id="redis-10"),
        pytest.param(
            {"redis_version": "7.2.4", "valkey_version": "7.2.5"}, False, id="valkey"
        ),
        pytest.param(
            {"redis_version": "7.2.4", "valkey_version": "7.1.0"}, True, id="valkey-7.1"
        ),
        pytest.param({}, False, id="not-told"),
    ],
)
def test_versions(told, refused):
    client = type("Client", (Told,), {"told": told})()
    if refused:
        with pytest.raises(ConfigError, match="Redis >= 7.0 or Valkey >= 7.2"):
            check_server(client)
    else:
        assert check_server(client) == []


def test_a_server_that_hides_info_warns(own_server):
    with own_server.client() as client:
        client.execute_command("ACL", "SETUSER", "default", "-info")
        [text] = check_server(client)
    assert "INFO" in text


# Held connections


@pytest.fixture
def call(broker: Broker) -> t.Iterator[BlockingCall]:
    client = broker.worker()
    call = BlockingCall(client)
    call.connect()
    yield call
    call.close()
    client.close()


def readable(held: BlockingCall | Subscription, timeout: float = 5) -> bool:
    return bool(select.select([held], [], [], timeout)[0])


def test_blocking_call_waits_in_a_selector(call, client):
    call.send("BLMOVE", "a", "b", "LEFT", "RIGHT", 5)
    assert call.pending
    assert not call.readable()
    client.rpush("a", "x")
    assert readable(call)
    assert call.readable()
    assert call.read() == b"x"
    assert not call.pending
    assert not call.readable()


def test_blocking_call_tells_its_id(call, client):
    call.send("BLMOVE", "a", "b", "LEFT", "RIGHT", 5)
    eventually(lambda: client.info("clients")["blocked_clients"] == 1)
    assert client.client_unblock(call.client_id)
    assert call.read() is None


def test_an_error_reply_keeps_the_connection(call, client):
    call.send("BLMOVE", "a", "b", "LEFT", "RIGHT", 5)
    eventually(lambda: client.info("clients")["blocked_clients"] == 1)
    client.client_unblock(call.client_id, error=True)
    with pytest.raises(redis.ResponseError, match="UNBLOCKED") as caught:
        call.read()
    assert is_connection_trouble(caught.value)
    assert not call.pending
    call.send("PING")
    assert call.read() == b"PONG"


def test_one_command_at_a_time(call):
    call.send("PING")
    with pytest.raises(RuntimeError, match="read"):
        call.send("PING")
    assert call.read() == b"PONG"


ACTS: dict[str, t.Callable[[BlockingCall], object]] = {
    "readable": lambda call: call.readable(),
    "read": lambda call: call.read(),
    # The kernel takes what is sent; the reply is what does not come.
    "send": lambda call: (call.send("PING"), call.read()),
}


@pytest.mark.parametrize("act", ACTS)
def test_a_lost_connection_is_told_and_never_replaced_unnoticed(call, client, act):
    identity = call.client_id
    if act == "read":
        call.send("BLMOVE", "a", "b", "LEFT", "RIGHT", 5)
    client.client_kill_filter(_id=identity)
    assert readable(call)
    with pytest.raises(redis.ConnectionError):
        ACTS[act](call)
    assert not call.pending
    with pytest.raises(redis.ConnectionError):
        call.fileno()
    call.connect()
    assert call.client_id != identity
    call.send("PING")
    assert call.read() == b"PONG"


def test_a_blocking_call_to_nowhere_can_be_connected_later(own_server):
    client = Broker(own_server.url).worker()
    own_server.stop()
    call = BlockingCall(client)
    with pytest.raises(redis.ConnectionError):
        call.connect()
    own_server.start()
    call.connect()
    call.send("PING")
    assert call.read() == b"PONG"
    call.close()
    client.close()


def test_closing_twice_and_connecting_twice_do_nothing_more(call):
    identity = call.client_id
    call.connect()
    assert call.client_id == identity
    call.close()
    call.close()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_closing_in_a_forked_child_leaves_the_parents_connection(call):
    child = os.fork()
    if child == 0:
        try:
            call.close()
        finally:
            os._exit(0)
    os.waitpid(child, 0)
    call.send("PING")
    assert call.read() == b"PONG"


def test_subscription_hands_out_what_arrived(broker, client):
    worker = broker.worker()
    subscription = Subscription(worker, ["one", "two"])
    subscription.connect()
    assert subscription.messages() == []
    client.publish("one", b"\xff1")
    client.publish("two", "2")
    client.publish("three", "3")
    found: list[tuple[str, bytes]] = []
    while len(found) < 2:
        assert readable(subscription)
        found += subscription.messages()
    assert found == [("one", b"\xff1"), ("two", b"2")]
    assert subscription.messages() == []
    subscription.close()
    worker.close()


def test_a_burst_of_messages_is_drained(broker, client):
    worker = broker.worker()
    subscription = Subscription(worker, ["one"])
    subscription.connect()
    with client.pipeline(transaction=False) as pipeline:
        for number in range(1000):
            pipeline.publish("one", f"{number:100}")
        pipeline.execute()
    found: list[tuple[str, bytes]] = []
    while len(found) < 1000:
        assert readable(subscription)
        found += subscription.messages()
    assert [int(data) for _, data in found] == list(range(1000))
    subscription.close()
    worker.close()


def test_a_lost_subscription_is_told(broker, client):
    worker = broker.worker()
    subscription = Subscription(worker, ["one"])
    subscription.connect()
    client.client_kill_filter(_type="pubsub")
    assert readable(subscription)
    with pytest.raises(redis.ConnectionError):
        subscription.messages()
    subscription.connect()
    client.publish("one", "again")
    assert readable(subscription)
    assert subscription.messages() == [("one", b"again")]
    subscription.close()
    worker.close()


def test_a_stopped_server_times_out_a_held_read(own_server):
    worker = Broker(own_server.url).worker()
    worker.connection_pool.connection_kwargs["socket_timeout"] = 0.2
    call = BlockingCall(worker)
    call.connect()
    assert own_server.process is not None
    own_server.process.send_signal(signal.SIGSTOP)
    call.send("PING")
    with pytest.raises(redis.TimeoutError):
        call.read()
    own_server.process.send_signal(signal.SIGCONT)
    with pytest.raises(redis.ConnectionError):
        call.send("PING")
    worker.close()
