"""Real servers for tests, and how to wait for what happens in other processes."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
import typing as t
from pathlib import Path

import redis

from flask_taskqueue.broker import embedded

T = t.TypeVar("T")

FAKETIME = next(Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1"), None)
"""Where Debian's package ``libfaketime`` puts what moves a process's clock."""


def why_no_clock() -> str:
    """Why the clock of a server cannot be set here; ``""`` where it can."""
    if FAKETIME is None:
        return "no libfaketime below /usr/lib"
    with open(embedded.binary(), "rb") as file:
        # Where an ELF file names what loads its libraries, and others before them.
        is_dynamic = b"/ld-" in file.read(4096)
    return "" if is_dynamic else "a statically linked server takes no libfaketime"


def eventually(
    condition: t.Callable[[], T], timeout: float = 10.0, message: str = ""
) -> T:
    """Call a condition until it is true.

    :param timeout: Seconds after which it fails.
    :param message: What was waited for.
    :return: The first true value.
    """
    deadline = time.monotonic() + timeout
    while not (value := condition()):
        if time.monotonic() > deadline:
            raise AssertionError(
                f"not within {timeout:g} s: {message or condition}, last {value!r}"
            )
        time.sleep(0.01)
    return value


def free_port() -> int:
    """A TCP port nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


class Server:
    """A server that a test may stop, kill and start again on the same data.

    :param directory: Where its data goes. Made if missing.
    :param tcp: Listen on a TCP port too, and say so in :attr:`url`.
    :param append_only: Keep the data over a kill.
    :param config: More lines of configuration, such as ``"maxmemory 10mb"``.
    :param clock: Let :meth:`set_clock` move its clock. Needs :data:`FAKETIME`.
    """

    def __init__(
        self,
        directory: Path,
        *,
        tcp: bool = False,
        append_only: bool = True,
        config: t.Sequence[str] = (),
        clock: bool = False,
    ) -> None:
        self.directory = Path(directory)
        self.port = free_port() if tcp else 0
        # Not in the directory: pytest's are too long for a socket.
        self._folder = Path(tempfile.mkdtemp(prefix="ftq-"))
        self.socket = self._folder / "s"
        self.config = (
            f"port {self.port}",
            "bind 127.0.0.1",
            f"unixsocket {self.socket}",
            f"dir {self.directory}",
            f"logfile {self.directory / 'server.log'}",
            f"appendonly {'yes' if append_only else 'no'}",
            'save ""',
            *config,
        )
        self.process: subprocess.Popen[bytes] | None = None
        self._clock = self._folder / "clock" if clock else None
        if clock:
            self.set_clock(0)

    @property
    def url(self) -> str:
        """For ``TASKQUEUE_URL``."""
        if self.port:
            return f"redis://127.0.0.1:{self.port}/0"
        return f"unix://{self.socket}"

    def client(self) -> redis.Redis:
        """A plain client, to be closed by the caller."""
        return redis.Redis.from_url(self.url)

    def start(self) -> Server:
        """Start it and wait until it answers."""
        self.directory.mkdir(parents=True, exist_ok=True)
        self.process = process = subprocess.Popen(
            [embedded.binary(), "-"],
            stdin=subprocess.PIPE,
            env=os.environ | self._environment(),
            start_new_session=True,
        )
        assert process.stdin is not None
        process.stdin.write("\n".join(self.config).encode())
        process.stdin.close()
        try:
            eventually(self._answers, message="the server answers")
        except BaseException:
            self.kill()
            raise
        return self

    def set_clock(self, seconds_from_now: float) -> None:
        """Set its clock, until set again, also over a restart.

        Its monotonic clock, by which it waits, goes on as it was.

        :param seconds_from_now: Ahead of this host's clock; negative is behind.
        """
        assert self._clock is not None, "it was not made with clock=True"
        # Replaced as a whole: it is read at every look at the clock.
        written = self._clock.with_suffix(".new")
        written.write_text(f"{seconds_from_now:+.6f}\n")
        written.replace(self._clock)
        if self.process is None:
            return
        with self.client() as client:

            def follows() -> bool:
                whole, micro = t.cast(tuple[int, int], client.time())
                ahead = whole + micro / 1_000_000 - time.time()
                return abs(ahead - seconds_from_now) < 0.1

            eventually(follows, message="its clock is the one set")

    def _environment(self) -> dict[str, str]:
        if self._clock is None:
            return {}
        return {
            "LD_PRELOAD": str(FAKETIME),
            "FAKETIME_TIMESTAMP_FILE": str(self._clock),
            "FAKETIME_NO_CACHE": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        }

    def stop(self) -> None:
        """End it in good order."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """End it without a chance to write anything."""
        self._end(signal.SIGKILL)

    def restart(self) -> None:
        """Stop it and start it on the same data."""
        self.stop()
        self.start()

    def close(self) -> None:
        """Kill it if it runs, and remove what is not in the directory."""
        self.kill()
        shutil.rmtree(self._folder, ignore_errors=True)

    def __enter__(self) -> Server:
        return self.start()

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def _answers(self) -> bool:
        assert self.process is not None
        if self.process.poll() is not None:
            log = (self.directory / "server.log").read_text()
            raise AssertionError(f"the server ended: {log[-1000:]}")
        with socket.socket(socket.AF_UNIX) as link:
            link.settimeout(1)
            try:
                link.connect(str(self.socket))
                link.sendall(b"PING\r\n")
                return link.recv(64).startswith((b"+PONG", b"-NOAUTH"))
            except OSError:
                return False

    def _end(self, number: signal.Signals) -> None:
        process, self.process = self.process, None
        if process is not None:
            process.send_signal(number)
            process.wait(20)
