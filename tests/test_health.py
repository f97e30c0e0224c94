"""What a worker's health port answers, and that nobody can hold it up."""

from __future__ import annotations

import socket
import typing as t

import pytest

from flask_taskqueue.worker.health import CLIENTS_MOST, Health, answer

from .servers import eventually


@pytest.mark.parametrize(
    ("head", "unready", "status", "body"),
    [
        (b"GET /live HTTP/1.1", "", 200, b"live\n"),
        (b"GET /live HTTP/1.1", "quiet", 200, b"live\n"),
        (b"GET /ready HTTP/1.1", "", 200, b"ready\n"),
        (b"GET /ready?a=b HTTP/1.0", "", 200, b"ready\n"),
        (b"GET /ready HTTP/1.1", "quiet", 503, b"not ready: quiet\n"),
        (b"HEAD /ready HTTP/1.1", "quiet", 503, b""),
        (b"GET / HTTP/1.1", "", 404, b"there are /live and /ready\n"),
        (b"POST /live HTTP/1.1", "", 405, b"only GET and HEAD\n"),
        (b"GET /live", "", 400, b"bad request\n"),
        (b"\x16\x03\x01\x00 \xff /live", "", 400, b"bad request\n"),
    ],
)
def test_a_request_is_answered(head: bytes, unready: str, status: int, body: bytes):
    reply = answer(head + b"\r\nHost: a\r\n\r\n", unready)
    top, _, rest = reply.partition(b"\r\n\r\n")
    assert top.startswith(b"HTTP/1.1 %d " % status)
    assert rest == body


@pytest.fixture
def health() -> t.Iterator[Health]:
    health = Health("127.0.0.1", 0)
    yield health
    health.close()


def connected(health: Health) -> socket.socket:
    host, port = health.address.split(":")
    return socket.create_connection((host, int(port)), timeout=5)


def test_a_request_in_pieces_is_answered(health: Health):
    with connected(health) as client:
        for piece in (b"GET /li", b"ve HTTP/1.1\r\n", b"\r\n"):
            health.serve("")
            client.sendall(piece)

        def answered() -> bytes:
            health.serve("")
            client.setblocking(False)
            try:
                return client.recv(4096)
            except BlockingIOError:
                return b""

        assert eventually(answered).endswith(b"\r\n\r\nlive\n")


def test_clients_that_say_nothing_do_not_wake_the_loop(health: Health):
    silent = [connected(health) for _ in range(CLIENTS_MOST)]
    listener = next(iter(health.filenos()))

    def are_all_in() -> bool:
        health.serve("")
        return listener not in health.filenos()

    try:
        eventually(are_all_in, message="all are listened to, and no more")
        assert len(list(health.filenos())) == CLIENTS_MOST
    finally:
        for client in silent:
            client.close()

    def are_gone() -> bool:
        health.serve("")
        return list(health.filenos()) == [listener]

    eventually(are_gone, message="only the listener is left")
