"""The guardian of an embedded server: a small program of its own, run by its path.

It imports nothing but the standard library, so that it starts at once and stays
small. There is one for each directory. It starts the server, starts it again when
it dies, and shuts it down when the last user is gone. What each file in the
directory is for:

* ``users.lock``: shared by every process that uses the server; the guardian tries
  to have it alone, which it can when nobody is left.
* ``guardian.lock``: held by the guardian, whose process id it contains.
* ``server.lock``: held by the server itself, which inherits it. Whatever becomes of
  the others, no second server starts on the same data while it runs.
* ``start.lock``: held by a process that looks whether there is a guardian.
* ``address``: path of the server's Unix socket.

All are ``flock`` locks: the kernel gives them back when their holder dies.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import select
import socket
import subprocess
import sys
import time
from pathlib import Path

USERS = "users.lock"
GUARDIAN = "guardian.lock"
SERVER = "server.lock"
START = "start.lock"
ADDRESS = "address"
LOG = "valkey.log"

SHARED = fcntl.LOCK_SH
ALONE = fcntl.LOCK_EX

TICK = 0.5
"""Seconds between two looks at whether somebody still uses the server."""

LOADING_LIMIT = 60.0
"""Seconds a server may take to load its data and answer."""

STOPPING_LIMIT = 10.0
"""Seconds a server may take to write what it holds and end."""

MALLOC = "glibc.malloc.tcache_count=8000"
"""Chunks of one size, up to 1 KB, that glibc's malloc keeps at hand once they are free
(its manual, "Memory Allocation Tunables"). 7 by default: a script frees hundreds, and
finding others in a large heap took as long as the script itself."""


def try_lock(path: Path, kind: int) -> int | None:
    """Lock a file, made if missing, without waiting.

    :param kind: :data:`SHARED` or :data:`ALONE`.
    :return: The descriptor that holds the lock; ``None`` while others hold it.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return None
    return descriptor


def unlock(descriptor: int) -> None:
    """Give a lock back, also when a process forked meanwhile shares it."""
    fcntl.flock(descriptor, fcntl.LOCK_UN)
    os.close(descriptor)


def is_held(path: Path) -> bool:
    """Whether some process holds a lock on the file."""
    descriptor = try_lock(path, ALONE)
    if descriptor is None:
        return True
    unlock(descriptor)
    return False


def same_file(descriptor: int, path: Path) -> bool:
    """Whether the open file is still the one at this path."""
    try:
        return os.path.samestat(os.fstat(descriptor), os.stat(path))
    except OSError:
        return False


def connect(address: str) -> socket.socket | None:
    """A connection to a server that answers there; ``None`` without one."""
    link = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    link.settimeout(1)
    try:
        link.connect(address)
        link.sendall(b"PING\r\n")
        if link.recv(64).startswith(b"+PONG"):
            return link
    except OSError:
        pass
    link.close()
    return None


def environment() -> dict[str, str]:
    """Environment variables that a server is started with."""
    return {"GLIBC_TUNABLES": MALLOC, **os.environ}


def start(directory: Path, binary: str, lock: int) -> subprocess.Popen[bytes]:
    """Start a server on the directory that holds this lock while it lives."""
    options = {
        "port": "0",
        "unixsocket": (directory / ADDRESS).read_text(),
        "unixsocketperm": "700",
        "dir": str(directory),
        "logfile": str(directory / LOG),
        "daemonize": "no",
        "appendonly": "yes",
        "appendfsync": "everysec",
        "save": "",
        "maxmemory-policy": "noeviction",
        # Result streams hold one entry each: smaller nodes, an eighth of the memory.
        "stream-node-max-bytes": "512",
    }
    return subprocess.Popen(  # noqa: S603 - the binary is the one its user found
        [
            binary,
            *(part for name, value in options.items() for part in (f"--{name}", value)),
        ],
        stdin=subprocess.DEVNULL,
        env=environment(),
        pass_fds=(lock,),
        # Not in the guardian's group: ending one leaves the other.
        start_new_session=True,
    )


def serve(directory: Path, binary: str) -> socket.socket | None:
    """Connect to the directory's server, started if none runs.

    :return: ``None`` when it cannot be started; its log says why.
    """
    process = None
    deadline = time.monotonic() + LOADING_LIMIT
    while time.monotonic() < deadline:
        link = connect((directory / ADDRESS).read_text())
        if link is not None:
            return link
        lock = try_lock(directory / SERVER, ALONE)
        if lock is not None:
            try:
                if process is not None and process.wait() > 0:
                    return None  # It gave up by itself: it was not killed.
                process = start(directory, binary, lock)
            finally:
                # Closed, not unlocked: the server has a descriptor of it.
                os.close(lock)
        time.sleep(0.01)
    return None


def lost(link: socket.socket, address: str) -> bool:
    """Wait a tick; whether the server cannot be reached any more."""
    if select.select([link], [], [], TICK)[0]:
        return True  # It sends nothing by itself: this is the end of the stream.
    # Something that cleans temporary files up took the socket's name away.
    return not os.path.exists(address)


def shut_down(link: socket.socket) -> bool:
    """Ask the server to end in good order; whether it does."""
    deadline = time.monotonic() + STOPPING_LIMIT
    try:
        link.settimeout(STOPPING_LIMIT)
        link.sendall(b"SHUTDOWN\r\n")
        # Any reply is a refusal, as while it writes its first append-only file.
        while link.recv(4096) and time.monotonic() < deadline:
            time.sleep(0.1)
            link.sendall(b"SHUTDOWN\r\n")
    except OSError:
        return False
    finally:
        link.close()
    return True


def stop(link: socket.socket, directory: Path) -> None:
    """Shut the server down and wait until its process has ended."""
    if not shut_down(link):
        return
    deadline = time.monotonic() + STOPPING_LIMIT
    while is_held(directory / SERVER):
        if time.monotonic() > deadline:
            return
        time.sleep(0.01)
    with contextlib.suppress(ChildProcessError):
        os.wait()  # One that was adopted is another's child.


def watch(link: socket.socket | None, directory: Path, binary: str, guard: int) -> None:
    """Keep the server going until nobody uses it.

    :param link: Connection to it; ``None`` when it could not be started.
    :param guard: Descriptor that holds ``guardian.lock``.
    """
    # A directory that was removed is nobody's; one made anew has its own guardian.
    while link is not None and same_file(guard, directory / GUARDIAN):
        if try_lock(directory / USERS, ALONE) is not None:
            # Kept until this process ends: a newcomer waits, and finds no guardian.
            stop(link, directory)
            return
        gone = lost(link, (directory / ADDRESS).read_text())
        if gone and same_file(guard, directory / GUARDIAN):
            stop(link, directory)
            link = serve(directory, binary)
    if link is not None:
        shut_down(link)


def main(directory: Path, binary: str) -> None:
    """Become the guardian of the directory, unless it has one.

    Returns in the process that was started once the server answers, or did not
    start. The guardian is a child that stays behind, nobody's to wait for.
    """
    os.umask(0o077)
    os.chdir("/")
    os.setsid()  # Out of reach of the terminal's Ctrl-C.
    guard = try_lock(directory / GUARDIAN, ALONE)
    if guard is None:
        return
    reader, writer = os.pipe()
    if os.fork():
        os.close(writer)
        os.read(reader, 1)  # Until the child closes its end, or is killed.
        return
    os.close(reader)
    os.pwrite(guard, f"{os.getpid():<10}\n".encode(), 0)
    link = serve(directory, binary)
    os.close(writer)
    watch(link, directory, binary, guard)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
