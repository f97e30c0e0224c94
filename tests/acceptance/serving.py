"""Real WSGI servers in front of an app, and plain sockets to ask them."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import typing as t
from http.client import HTTPConnection, HTTPResponse

from ..processes import AppFolder
from ..servers import eventually, free_port


def gunicorn(*options: str, app: str = "jobs:create_app()") -> tuple[str, ...]:
    """Command line of one worker process of gunicorn."""
    return ("-m", "gunicorn", "-b", "127.0.0.1:{port}", *options, app)


class Served:
    """A server process, from ``with`` on until it accepts connections.

    :param arguments: Of its command line; ``{port}`` is where it is to listen.
    :param env: More environment variables.
    """

    def __init__(self, folder: AppFolder, arguments: t.Sequence[str], **env: str):
        self.port = free_port()
        self._folder = folder
        self._arguments = [part.format(port=self.port) for part in arguments]
        # Gunicorn keeps a socket in the home directory.
        self._env = {**folder.env, "HOME": str(folder.folder), **env}
        self._log = folder.folder / f"server-{self.port}.log"
        self._asked: list[Answer] = []

    def __enter__(self) -> Served:
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                [sys.executable, *self._arguments],
                cwd=self._folder.folder,
                env=self._env,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        eventually(self._listens, 20, "the server listens")
        return self

    def __exit__(self, *exc_info: object) -> None:
        for answer in self._asked:
            answer.close()
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait(10)

    @property
    def output(self) -> str:
        """What it has printed."""
        return self._log.read_text("utf-8", "replace")

    def _listens(self) -> bool:
        assert self._process.poll() is None, self.output
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0

    def ask(self, path: str, **headers: str) -> Answer:
        """Send a ``GET``. The answer is read when the test asks for it."""
        answer = Answer(self.port, path, headers)
        self._asked.append(answer)
        return answer


class Answer:
    """One request on a connection of its own."""

    def __init__(self, port: int, path: str, headers: t.Mapping[str, str]) -> None:
        self._connection = HTTPConnection("127.0.0.1", port, timeout=40)
        self._connection.request("GET", path, headers={**headers})
        self._response: HTTPResponse | None = None

    @property
    def head(self) -> HTTPResponse:
        """Status and headers, waited for."""
        if self._response is None:
            self._response = self._connection.getresponse()
        return self._response

    def event(self) -> str:
        """Lines of the next event, or comment."""
        lines = []
        while line := self.head.readline().decode().rstrip("\n"):
            lines.append(line)
        return "\n".join(lines)

    def rest(self) -> str:
        """What comes until the end."""
        return self.head.read().decode()

    def close(self) -> None:
        """Hang up."""
        if self._response is not None:
            self._response.close()
        self._connection.close()
