"""Connections held for a selector loop: one blocking command, or a subscription."""

from __future__ import annotations

import typing as t
from contextlib import contextmanager

import redis
from redis.exceptions import ConnectionError, TimeoutError

from .exchange import Command
from .trouble import is_connection_trouble

# Before 5.3 redis-py wants the name of a command here; later versions warn about it.
_COMMAND_NAME = ("HELD",) if redis.__version__.startswith(("5.0", "5.1", "5.2")) else ()

# Pushed in RESP3, a plain list in RESP2; redis-py 5 speaks the latter, and the first of
# it does not take this on a connection that Sentinel leads.
_PUSHED = {} if redis.__version__.startswith("5.") else {"push_request": True}


class Held:
    """One connection of a client, out of its pool until it is closed.

    It never reconnects by itself: once an error says that it is lost it is closed,
    and all but :meth:`connect` and :meth:`close` raise ``ConnectionError``.

    :param client: Connected to when :meth:`connect` is called.
    """

    def __init__(self, client: redis.Redis) -> None:
        self._pool = client.connection_pool
        self._connection: t.Any = None

    def connect(self) -> None:
        """Connect, unless it is connected.

        :raises redis.RedisError: The server cannot be reached, or refuses.
        """
        if self._connection is None:
            self._connection = self._pool.get_connection(*_COMMAND_NAME)
            try:
                self._greet()
            except BaseException:
                self.close()
                raise

    def _greet(self) -> None:
        """First words on a new connection."""

    def fileno(self) -> int:
        """Descriptor to wait on for reading.

        Bytes can be waiting above it, decoded but unread: ask :meth:`readable` after
        each read, and before waiting.
        """
        # redis-py has no public way to it; `_sock` in all of 5.0 to 8.1.
        return t.cast(int, self._live()._sock.fileno())

    def readable(self) -> bool:
        """Whether a read would find something now. Does not wait.

        :raises redis.ConnectionError: The connection is lost.
        """
        with self._watched() as connection:
            return bool(connection.can_read(timeout=0))

    def close(self) -> None:
        """Disconnect; in a forked child without a word to the server."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.disconnect()
            self._pool.release(connection)

    def _live(self) -> t.Any:
        if self._connection is None:
            raise ConnectionError("the connection is closed")
        return self._connection

    @contextmanager
    def _watched(self) -> t.Iterator[t.Any]:
        """The connection, closed if it turns out to be lost."""
        try:
            yield self._live()
        except (ConnectionError, TimeoutError, OSError):
            # redis-py would connect anew with the next command, unnoticed.
            self.close()
            raise


class BlockingCall(Held):
    """A connection on which one command at a time waits for its reply."""

    client_id: int
    """The connection's id at the server, for ``CLIENT UNBLOCK`` and ``CLIENT KILL``."""

    def __init__(self, client: redis.Redis) -> None:
        super().__init__(client)
        self._pending = False

    @property
    def pending(self) -> bool:
        """Whether a command was sent whose reply has not been read."""
        return self._pending

    def send(self, *args: str | bytes | float) -> None:
        """Send a command.

        :raises RuntimeError: The reply to the one before is :attr:`pending`.
        :raises redis.ConnectionError: The connection is lost.
        """
        if self._pending:
            raise RuntimeError("expected read() before the next send()")
        with self._watched() as connection:
            connection.send_command(*args)
        self._pending = True

    def read(self) -> t.Any:
        """Wait for the reply and return it as the server sent it.

        :raises redis.TimeoutError: None came within the client's ``socket_timeout``.
        :raises redis.RedisError: The server's error, or a lost connection.
        """
        with self._watched() as connection:
            try:
                return connection.read_response()
            finally:
                self._pending = False

    def close(self) -> None:
        """Disconnect. Of a pending command the reply is never read."""
        self._pending = False
        super().close()

    def _greet(self) -> None:
        self.send("CLIENT", "ID")
        self.client_id = self.read()


class Subscription(Held):
    """A connection that listens to channels.

    :param channels: Subscribed to when :meth:`connect` returns.
    """

    def __init__(self, client: redis.Redis, channels: t.Iterable[str] = ()) -> None:
        super().__init__(client)
        self.channels: tuple[str, ...] = tuple(channels)
        self._early: list[tuple[str, bytes]] = []

    def messages(self) -> list[tuple[str, bytes]]:
        """What has arrived, as pairs of channel and data. Does not wait.

        :raises redis.ConnectionError: The connection is lost.
        """
        found, self._early = self._early, []
        while self.readable():
            self._receive(found)
        return found

    def listen(self, channels: t.Sequence[str]) -> None:
        """Listen to these, too, from now on: what is said after the return is heard.

        To one it listens to already is no harm, and shows whether the server answers.

        :raises redis.RedisError: The connection is lost, or the server refuses.
        """
        if not channels:
            return
        with self._watched() as connection:
            connection.send_command("SUBSCRIBE", *channels)
        confirmed = 0
        while confirmed < len(channels):
            # The first channel may speak before the last is confirmed.
            confirmed += self._receive(self._early) == b"subscribe"

    def leave(self, channels: t.Sequence[str]) -> None:
        """Listen to these no more. What is on its way may still arrive.

        :raises redis.ConnectionError: The connection is lost.
        """
        if channels:
            with self._watched() as connection:
                connection.send_command("UNSUBSCRIBE", *channels)

    def _greet(self) -> None:
        self._early = []
        self.listen(self.channels)

    def _receive(self, found: list[tuple[str, bytes]]) -> bytes:
        """Read one reply, appended if it is a message; its kind."""
        with self._watched() as connection:
            kind, channel, data = connection.read_response(**_PUSHED)
        if kind == b"message":
            found.append((channel.decode(), data))
        return t.cast(bytes, kind)


def ask(client: redis.Redis, patience: float, *commands: Command) -> list[t.Any]:
    """Send commands, of which the first waits at the server, on a connection of the
    pool.

    :param patience: Seconds until the first reply has to begin. The client's own
        ``socket_timeout`` is that of connecting, and of the rest of the replies.
    :return: The replies as the server sent them; errors are among them.
    :raises redis.TimeoutError: No reply came in time; the connection is dropped.
    :raises redis.RedisError: A lost connection.
    """
    pool = client.connection_pool
    connection: t.Any = pool.get_connection(*_COMMAND_NAME)
    try:
        connection.send_packed_command(connection.pack_commands(commands))
        if not connection.can_read(timeout=patience):
            raise TimeoutError(f"no reply within {patience:g} s")
        return [_reply(connection) for _ in commands]
    except BaseException:
        # Its replies must not become those of the next command.
        connection.disconnect()
        raise
    finally:
        pool.release(connection)


def _reply(connection: t.Any) -> t.Any:
    try:
        return connection.read_response()
    except redis.ResponseError as error:
        if is_connection_trouble(error):
            raise
        return error
