"""Answers ``GET /live`` and ``GET /ready`` over HTTP, in the supervisor's own loop.

Without a thread of its own: a supervisor that hangs does not answer.
"""

from __future__ import annotations

import contextlib
import socket
import time
from collections.abc import Iterator

PATIENCE = 5.0
"""Seconds a client may take to say what it wants."""

HEAD_MOST = 8192
"""Bytes of a request's head."""

CLIENTS_MOST = 32
"""Clients listened to at once; others wait."""

_REASONS = {200: "OK", 404: "Not Found", 405: "Method Not Allowed"}
_REASONS |= {400: "Bad Request", 503: "Service Unavailable"}


class Health:
    """A listening socket and who is connected to it.

    :param host: Name or address; ``""`` is every interface, IPv4 and IPv6.
    :param port: 0 is a free one.
    :raises OSError: Nothing can listen there.
    """

    def __init__(self, host: str, port: int) -> None:
        self._listener = _listen(host, port)
        self._listener.setblocking(False)
        self._clients: dict[socket.socket, tuple[bytearray, float]] = {}

    @property
    def address(self) -> str:
        """Where it listens: ``host:port``."""
        host, port = self._listener.getsockname()[:2]
        return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"

    def filenos(self) -> Iterator[int]:
        """Descriptors that become readable when somebody asks."""
        if len(self._clients) < CLIENTS_MOST:
            yield self._listener.fileno()
        yield from (client.fileno() for client in self._clients)

    def serve(self, unready: str) -> None:
        """Answer who has asked. Does not wait.

        :param unready: Why the worker is not ready, ``""`` where it is.
        """
        now = time.monotonic()
        with contextlib.suppress(OSError):
            while len(self._clients) < CLIENTS_MOST:
                client, _ = self._listener.accept()
                client.setblocking(False)
                self._clients[client] = bytearray(), now + PATIENCE
        for client, (head, until) in list(self._clients.items()):
            # What is sent is so little that it is taken at once, or by nobody.
            with contextlib.suppress(OSError):
                if not _is_whole(client, head):
                    if now < until:
                        continue
                elif head:
                    client.sendall(answer(bytes(head), unready))
            del self._clients[client]
            client.close()

    def close(self) -> None:
        """Stop listening; in a forked child, too."""
        self._listener.close()
        for client in self._clients:
            client.close()


def _listen(host: str, port: int) -> socket.socket:
    if not host:
        if socket.has_dualstack_ipv6():
            ipv6 = socket.AF_INET6
            return socket.create_server(("", port), family=ipv6, dualstack_ipv6=True)
        return socket.create_server(("", port))
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    family, _, _, _, address = found[0]
    return socket.create_server((str(address[0]), port), family=family)


def _is_whole(client: socket.socket, head: bytearray) -> bool:
    """Read what came; whether that is all to be had.

    :raises OSError: The client is gone.
    """
    try:
        came = client.recv(HEAD_MOST)
    except BlockingIOError:
        return False
    head += came
    return not came or b"\r\n\r\n" in head or len(head) > HEAD_MOST


def answer(head: bytes, unready: str) -> bytes:
    """The answer to a request, as bytes. Pure."""
    words = head.split(b"\r\n", 1)[0].split(b" ")
    status, text = 400, "bad request"
    if len(words) == 3 and words[2].startswith(b"HTTP/1."):
        status, text = _found(words[1].partition(b"?")[0], unready)
        if words[0] not in (b"GET", b"HEAD"):
            status, text = 405, "only GET and HEAD"
    body = f"{text}\n".encode()
    lines = (
        f"HTTP/1.1 {status} {_REASONS[status]}",
        "Content-Type: text/plain; charset=utf-8",
        f"Content-Length: {len(body)}",
        "Cache-Control: no-store",
        "Connection: close",
    )
    top = "\r\n".join(lines).encode() + b"\r\n\r\n"
    return top if words[0] == b"HEAD" else top + body


def _found(path: bytes, unready: str) -> tuple[int, str]:
    if path == b"/live":
        return 200, "live"
    if path == b"/ready":
        return (503, f"not ready: {unready}") if unready else (200, "ready")
    return 404, "there are /live and /ready"
