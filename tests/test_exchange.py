"""Scripts called on connections of their own, on real servers."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
import typing as t
from concurrent.futures import ThreadPoolExecutor

import pytest
import redis
from redis.exceptions import NoScriptError, ReadOnlyError, ResponseError

from flask_taskqueue.broker.connection import Broker
from flask_taskqueue.broker.exchange import Exchange, Exchanges
from flask_taskqueue.errors import BrokerUnavailable

from . import test_connection
from .servers import Server, eventually, free_port
from .test_connection import Gate, urls_of_nothing

black_hole = test_connection.black_hole
sentinel_port = test_connection.sentinel_port

ECHO = "return ARGV[1]"
INCR = "return redis.call('INCR', 'count')"
WAIT = ("BLPOP", "list", 20)
"""Answered when somebody pushes: until then the connection is in use."""


@pytest.fixture
def broker(redis_url: str) -> t.Iterator[Broker]:
    broker = Broker(redis_url)
    yield broker
    broker.close()


@pytest.fixture
def exchange(broker: Broker) -> t.Iterator[Exchange]:
    client = broker.worker()
    yield Exchange(client.connection_pool.make_connection())
    client.close()


def identity(exchange: Exchange | Exchanges) -> int:
    """The server's id of the connection in use."""
    number: int = exchange.ask(("CLIENT", "ID"))
    return number


def await_waiting(client: redis.Redis, count: int = 1) -> None:
    eventually(lambda: client.info("clients")["blocked_clients"] == count)


def test_a_script_is_called_by_its_sha_once_the_server_has_it(
    exchange: Exchange, client: redis.Redis
):
    sha = client.script_load(ECHO)
    client.script_flush()
    with pytest.raises(NoScriptError):
        exchange.evalsha(sha, 0, "text")
    assert exchange.eval(ECHO, 0, "text") == b"text"
    for value, expected in (("ä", "ä".encode()), (b"\xff", b"\xff"), (3, b"3")):
        assert exchange.evalsha(sha, 0, value) == expected
    assert exchange.evalsha(sha, 0, 0.1) == b"0.1"


def test_an_error_reply_keeps_the_connection(exchange: Exchange, broker: Broker):
    for either in (exchange, broker.exchange):
        before = identity(either)
        with pytest.raises(ResponseError, match="mine"):
            either.eval("return redis.error_reply('ERR mine')", 0)
        assert identity(either) == before


def test_a_reply_that_says_another_server_serves_drops_the_connection(
    own_server: Server,
):
    broker = Broker(own_server.url)
    with own_server.client() as client:
        exchanges = broker.exchange
        before = identity(exchanges)
        # A replica of nobody; its clients stay connected.
        client.replicaof("127.0.0.1", str(free_port()))
        with pytest.raises(ReadOnlyError):
            exchanges.eval(INCR, 0)
        with pytest.raises(BrokerUnavailable), broker.errors():
            exchanges.eval(INCR, 0)
        client.replicaof("NO", "ONE")
        assert exchanges.eval(INCR, 0) == 1
        assert identity(exchanges) != before
    broker.close()


def test_a_closed_connection_is_replaced(
    broker: Broker, client: redis.Redis, redis_url: str
):
    careful = Exchanges(broker.worker(), repeats=False)
    for exchanges in (broker.exchange, careful):
        before = identity(exchanges)
        client.client_kill_filter(_id=str(before))
        assert exchanges.eval(INCR, 0)
        assert identity(exchanges) != before
    assert client.get("count") == b"2"
    careful.close()


def test_a_held_connection_tells_that_it_was_lost_and_connects_anew(
    exchange: Exchange, client: redis.Redis
):
    before = identity(exchange)
    client.client_kill_filter(_id=str(before))
    with pytest.raises(redis.ConnectionError):
        exchange.eval(INCR, 0)
    assert exchange.eval(INCR, 0) == 1
    assert identity(exchange) != before


@pytest.mark.parametrize(
    ("repeats", "lost", "sent"), [(True, 1, 2), (True, 9, 2), (False, 1, 1)]
)
def test_a_lost_reply_is_asked_for_once_more_where_that_is_borne(
    server: Server, client: redis.Redis, repeats: bool, lost: int, sent: int
):
    with Gate(server, lose=lost) as gate:
        exchanges = Exchanges(Broker(gate.url).worker(), repeats=repeats)
        try:
            assert exchanges.eval(INCR, 0) == sent
            assert lost < sent
        except redis.ConnectionError:
            assert lost >= sent
        exchanges.close()
    assert client.get("count") == str(sent).encode()


def test_a_large_command_may_take_longer_than_the_time_out(server: Server):
    with Gate(server, pause=0.02) as gate:
        pool = Broker(gate.url).worker().connection_pool
        pool.connection_kwargs["socket_timeout"] = 0.5
        exchange = Exchange(pool.make_connection())
        identity(exchange)
        # Otherwise the kernel takes it all at once.
        exchange.connection._sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 65536)
        began = time.monotonic()
        assert exchange.eval("return #ARGV[1]", 0, bytes(4 * 1024**2)) == 4 * 1024**2
        assert time.monotonic() - began > 2 * 0.5
        exchange.connection.disconnect()


@pytest.mark.parametrize("case", urls_of_nothing(0, 0))
def test_a_server_that_is_away_is_told_within_two_seconds(case: str, black_hole: int):
    broker = Broker(urls_of_nothing(free_port(), black_hole)[case])
    for _ in range(2):  # The second time there is a connection that was closed.
        begun = time.monotonic()
        with pytest.raises(BrokerUnavailable), broker.errors():
            broker.exchange.eval(INCR, 0)
        assert time.monotonic() - begun < 2
    broker.close()


@pytest.mark.parametrize("repeats", [True, False])
def test_a_server_that_stops_answering_is_told_within_two_seconds(
    own_server: Server, repeats: bool
):
    broker = Broker(own_server.url)
    exchanges = Exchanges(broker.producer, repeats=repeats)
    assert exchanges.eval(INCR, 0) == 1
    assert own_server.process is not None
    own_server.process.send_signal(signal.SIGSTOP)
    for _ in range(2):
        begun = time.monotonic()
        with pytest.raises(BrokerUnavailable), broker.errors():
            exchanges.eval(ECHO, 0, "early")
        assert time.monotonic() - begun < 2
    own_server.process.send_signal(signal.SIGCONT)
    assert exchanges.eval(ECHO, 0, "late") == b"late"
    exchanges.close()


def test_a_restarted_server_is_found_by_all_connections(own_server: Server):
    broker = Broker(own_server.url)
    with own_server.client() as client, ThreadPoolExecutor(4) as threads:
        waiting = [threads.submit(broker.exchange.ask, WAIT) for _ in range(4)]
        await_waiting(client, 4)
        client.rpush("list", *range(4))
        assert sorted(each.result()[1] for each in waiting) == [b"0", b"1", b"2", b"3"]
    own_server.restart()
    assert [broker.exchange.eval(INCR, 0) for _ in range(4)] == [1, 2, 3, 4]
    broker.close()


def test_threads_do_not_share_a_connection(broker: Broker, client: redis.Redis):
    exchanges = broker.exchange
    first = identity(exchanges)
    with ThreadPoolExecutor(1) as threads:
        waiting = threads.submit(exchanges.ask, WAIT)
        await_waiting(client)
        second = identity(exchanges)
        client.rpush("list", "value")
        assert waiting.result() == [b"list", b"value"]
    assert first != second
    # Both are kept, and no third is made.
    assert identity(exchanges) in (first, second)


def test_each_thread_gets_its_own_reply(broker: Broker):
    exchanges = broker.exchange
    barrier = threading.Barrier(8)

    def ask(number: int) -> bool:
        barrier.wait()
        texts = [f"{number}.{call}" for call in range(200)]
        return all(exchanges.eval(ECHO, 0, x) == x.encode() for x in texts)

    with ThreadPoolExecutor(8) as threads:
        assert all(threads.map(ask, range(8)))


GREENLETS = """
import sys
from gevent import monkey
monkey.patch_all()
import gevent
from flask_taskqueue.broker.connection import Broker

exchanges = Broker(sys.argv[1]).exchange
first = exchanges.ask(("CLIENT", "ID"))
waiting = gevent.spawn(exchanges.ask, ("BLPOP", "list", 20))
gevent.sleep(0)  # It has sent its command and waits for the reply.
second = exchanges.ask(("CLIENT", "ID"))
exchanges.ask(("RPUSH", "list", "value"))
assert waiting.get(timeout=20) == [b"list", b"value"], waiting.value
assert first != second, "one connection for two greenlets"
texts = [str(number) for number in range(50)]
calls = [gevent.spawn(exchanges.eval, "return ARGV[1]", 0, text) for text in texts]
assert [call.get(timeout=20) for call in calls] == [text.encode() for text in texts]
print("good")
"""


def test_greenlets_of_one_thread_do_not_share_a_connection(redis_url: str):
    pytest.importorskip("gevent")
    ran = subprocess.run(
        [sys.executable, "-c", GREENLETS, redis_url],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert ran.stdout == "good\n", ran.stderr


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_forked_child_has_connections_of_its_own(broker: Broker):
    mine = identity(broker.exchange)
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.write(writer, str(identity(broker.exchange)).encode())
        finally:
            os._exit(0)
    os.waitpid(child, 0)
    theirs = int(os.read(reader, 100))
    assert theirs != mine
    assert identity(broker.exchange) == mine
    os.close(reader)
    os.close(writer)


class Interrupted(BaseException):
    """Raised by a signal handler, as a time limit is."""


def test_the_reply_to_an_interrupted_call_is_not_the_next_ones(
    broker: Broker, exchange: Exchange, client: redis.Redis
):
    def interrupt(number: int, frame: object) -> None:
        raise Interrupted

    before = signal.signal(signal.SIGUSR1, interrupt)
    try:
        for either in (broker.exchange, exchange):
            main = threading.main_thread().ident
            assert main is not None
            with ThreadPoolExecutor(1) as threads:

                def hit(main: int = main) -> None:
                    await_waiting(client)
                    signal.pthread_kill(main, signal.SIGUSR1)

                done = threads.submit(hit)
                with pytest.raises(Interrupted):
                    either.ask(WAIT)
                done.result()
            assert either.eval(ECHO, 0, "mine") == b"mine"
    finally:
        signal.signal(signal.SIGUSR1, before)


def test_a_closed_broker_keeps_no_connection(broker: Broker, client: redis.Redis):
    exchanges = broker.exchange
    mine = identity(exchanges)
    broker.close()

    def ids() -> set[int]:
        return {int(each["id"]) for each in client.client_list()}

    eventually(lambda: mine not in ids())
    assert broker.exchange.eval(ECHO, 0, "again") == b"again"


def test_sentinel_leads_idle_connections_to_another_server(
    sentinel_port: int, own_server: Server
):
    broker = Broker(f"redis+sentinel://127.0.0.1:{sentinel_port}/mymaster")
    exchanges = broker.exchange

    def port() -> int:
        info: bytes = exchanges.ask(("INFO", "server"))
        return int(info.partition(b"tcp_port:")[2].partition(b"\r")[0])

    old = port()
    assert old != own_server.port
    with (
        ThreadPoolExecutor(1) as threads,
        redis.Redis(port=sentinel_port) as sentinel,
        redis.Redis(port=old) as client,
    ):
        waiting = threads.submit(exchanges.ask, WAIT)
        await_waiting(client)
        sentinel.sentinel_remove("mymaster")
        sentinel.sentinel_monitor("mymaster", "127.0.0.1", own_server.port, 1)
        assert port() == own_server.port, "a new connection"
        client.rpush("list", "value")
        assert waiting.result() == [b"list", b"value"]
        assert port() == own_server.port, "the one that was in use meanwhile"
    broker.close()
