"""Calls scripts on a connection of its own: one packed command, one reply.

Around one call ``redis.Redis`` does as much work as the call itself takes; here is what
a call needs. How to connect, greet, sign in, time out and read a reply is the matter of
redis-py's ``Connection``.
"""

from __future__ import annotations

import typing as t

import redis
from hiredis import pack_command
from redis.exceptions import (
    ConnectionError,
    MasterDownError,
    ReadOnlyError,
    ResponseError,
    TimeoutError,
)

from .trouble import is_connection_trouble

Argument = str | bytes | float
Command = tuple[Argument, ...]

PIECE = 64 * 1024
"""Bytes sent in one go: each may take as long as the connection's time-out, which is
too short for a large result on a slow line."""

# Before 5.3 redis-py wants the name of a command here; later versions warn about it.
_COMMAND_NAME = ("EVAL",) if redis.__version__.startswith(("5.0", "5.1", "5.2")) else ()


class Exchange:
    """Calls scripts on one connection, one at a time. Tries nothing twice.

    After an error that is no reply the connection is closed; the next call connects.

    :param connection: A ``redis.connection.Connection`` that nobody else uses.
    """

    __slots__ = ("connection",)

    def __init__(self, connection: t.Any) -> None:
        self.connection: t.Any = connection

    @classmethod
    def of(cls, client: t.Any) -> Exchange:
        """One of a client's connections, taken out of its pool."""
        return cls(client.connection_pool.get_connection(*_COMMAND_NAME))

    def evalsha(self, sha: str, numkeys: int, *args: Argument) -> t.Any:
        """Call a script the server keeps.

        :raises redis.exceptions.NoScriptError: It does not keep it.
        :raises redis.RedisError: The server's error, or a lost connection.
        """
        return self.ask(("EVALSHA", sha, numkeys, *args))

    def eval(self, source: str, numkeys: int, *args: Argument) -> t.Any:
        """Call a script, which the server keeps from now on.

        :raises redis.RedisError: The server's error, or a lost connection.
        """
        return self.ask(("EVAL", source, numkeys, *args))

    def ask(self, command: Command) -> t.Any:
        """Send a command; its reply as the server sent it.

        :raises redis.RedisError: The server's error, or a lost connection.
        """
        self.send(command)
        return self.receive()

    def send(self, *commands: Command) -> None:
        """Send commands; each has a reply to be received, in their order.

        :raises redis.RedisError: The connection is lost.
        """
        # hiredis says it wants one part; it takes any number (3.5).
        packed = [pack_command(command) for command in commands]  # type: ignore[arg-type]
        if len(packed[-1]) > PIECE:
            packed = [*_pieces(packed)]
        try:
            self.connection.send_packed_command(packed)
        except BaseException:
            self.connection.disconnect()
            raise

    def receive(self) -> t.Any:
        """The reply to the first command that has none yet, as the server sent it.

        :raises redis.RedisError: The server's error, or a lost connection.
        """
        try:
            return self.connection.read_response()
        except BaseException as error:
            if not _is_answer(error):
                # It may still come, and must not be the reply to the next command.
                self.connection.disconnect()
            raise


class Exchanges:
    """Calls scripts for any thread or greenlet: no two calls share a connection.

    The connections of a client's pool, kept out of it: to take one out for each call
    costs as much as all that :class:`Exchange` does.

    :param client: Of this process. Nobody else uses its pool.
    :param repeats: A call whose connection breaks is sent once more, and at once: the
        script must bear that.
    """

    def __init__(self, client: redis.Redis, *, repeats: bool) -> None:
        self._client = client
        self._pool: t.Any = client.connection_pool
        self._repeats = repeats
        # A list: neither pop() nor append() lets another thread or greenlet in.
        self._idle: list[Exchange] = []

    def evalsha(self, sha: str, numkeys: int, *args: Argument) -> t.Any:
        """See :meth:`Exchange.evalsha`."""
        return self.ask(("EVALSHA", sha, numkeys, *args))

    def eval(self, source: str, numkeys: int, *args: Argument) -> t.Any:
        """See :meth:`Exchange.eval`."""
        return self.ask(("EVAL", source, numkeys, *args))

    def ask(self, command: Command) -> t.Any:
        """See :meth:`Exchange.ask`."""
        exchange = self._taken()
        try:
            reply = self._asked(exchange, command)
        except BaseException as error:
            if _is_answer(error):
                self._idle.append(exchange)
            else:
                self._pool.release(exchange.connection)
            raise
        self._idle.append(exchange)
        return reply

    def _asked(self, exchange: Exchange, command: Command) -> t.Any:
        try:
            return exchange.ask(command)
        except (ConnectionError, MasterDownError, ReadOnlyError):
            if not self._repeats:
                raise
            return exchange.ask(command)

    def close(self) -> None:
        """Disconnect what is idle. What is in use ends with its call."""
        while self._idle:
            self._pool.release(self._idle.pop().connection)
        self._pool.disconnect(inuse_connections=False)

    def _taken(self) -> Exchange:
        while True:
            try:
                exchange = self._idle.pop()
            except IndexError:
                return Exchange.of(self._client)
            if self._is_ready(exchange.connection):
                return exchange
            self._pool.release(exchange.connection)

    def _is_ready(self, connection: t.Any) -> bool:
        # False where Sentinel has led another connection to another server.
        if not self._pool.owns_connection(connection):
            return False
        if self._repeats:
            return True  # Where the server has closed it, the repeat connects anew.
        try:
            is_closed = connection.can_read()
        except (ConnectionError, TimeoutError, OSError):
            is_closed = True
        if is_closed:
            connection.disconnect()
        return not is_closed


def _pieces(packed: t.Iterable[bytes]) -> t.Iterator[bytes]:
    for data in packed:
        for at in range(0, len(data), PIECE):
            yield data[at : at + PIECE]


def _is_answer(error: BaseException) -> bool:
    """Whether it is a reply, after which the connection serves as before."""
    return isinstance(error, ResponseError) and not is_connection_trouble(error)
