"""A real PostgreSQL for tests, started from the binaries that are installed."""

from __future__ import annotations

import itertools
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import typing as t
from pathlib import Path

import psycopg

from .servers import eventually

DEBIAN = Path("/usr/lib/postgresql")
"""Where Debian puts binaries that are not on ``PATH``."""


def binaries() -> Path | None:
    """The folder with ``initdb`` and ``postgres``, of the newest version found."""
    found = shutil.which("initdb")
    if found is not None:
        return Path(found).resolve().parent
    versions = sorted(DEBIAN.glob("*/bin/initdb"), key=lambda path: int(path.parts[-3]))
    return versions[-1].parent if versions else None


class Postgres:
    """A cluster in a temporary folder, on a Unix socket only, for this test run.

    PostgreSQL refuses to run as root: then it is another user's.

    :param binaries: Folder with ``initdb`` and ``postgres``.
    """

    def __init__(self, binaries: Path) -> None:
        self._binaries = binaries
        # Short, as the socket is in it, and in reach of the other user.
        self.folder = Path(tempfile.mkdtemp(prefix="ftq-pg-"))
        self._user: dict[str, t.Any] = {}
        if os.getuid() == 0:
            names = {entry.pw_name for entry in pwd.getpwall()}
            name = "postgres" if "postgres" in names else "nobody"
            entry = pwd.getpwnam(name)
            os.chown(self.folder, entry.pw_uid, entry.pw_gid)
            self._user = {
                "user": entry.pw_uid, "group": entry.pw_gid, "extra_groups": [],
            }  # fmt: skip
        self._process: subprocess.Popen[bytes] | None = None
        self._numbers = itertools.count(1)

    def connect(self, database: str = "postgres") -> psycopg.Connection[t.Any]:
        """A plain connection, each statement committed, to be closed by the caller."""
        return psycopg.connect(
            host=str(self.folder), user="tests", dbname=database, autocommit=True
        )

    def new_database(self) -> str:
        """Make an empty database; its URL for SQLAlchemy."""
        name = f"test{next(self._numbers)}"
        with self.connect() as connection:
            connection.execute(f"CREATE DATABASE {name}".encode())
        return f"postgresql+psycopg://tests@/{name}?host={self.folder}"

    def __enter__(self) -> Postgres:
        data = self.folder / "data"
        self._run(
            "initdb", "-D", data, "-U", "tests", "--auth=trust", "-E", "UTF8",
            "--locale=C", "--no-sync",
        )  # fmt: skip
        settings = {
            "listen_addresses": "", "unix_socket_directories": self.folder,
            "fsync": "off", "synchronous_commit": "off", "full_page_writes": "off",
            "max_prepared_transactions": 10,
        }  # fmt: skip
        options = [f"--{name}={value}" for name, value in settings.items()]
        with (self.folder / "log").open("wb") as log:
            self._process = subprocess.Popen(
                [self._binaries / "postgres", "-D", data, *options],
                cwd=self.folder, stdout=log, stderr=log, start_new_session=True,
                **self._user,
            )  # fmt: skip
        eventually(self._answers, 20, "PostgreSQL answers")
        return self

    def __exit__(self, *exc_info: object) -> None:
        if self._process is not None:
            # An immediate end: QUIT lets it stop its own processes.
            self._process.send_signal(signal.SIGQUIT)
            self._process.wait(20)
        shutil.rmtree(self.folder, ignore_errors=True)

    def _run(self, name: str, *args: object) -> None:
        done = subprocess.run(
            [self._binaries / name, *map(str, args)],
            cwd=self.folder, capture_output=True, text=True, timeout=60, **self._user,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr

    def _answers(self) -> bool:
        assert self._process is not None
        log = (self.folder / "log").read_text()
        assert self._process.poll() is None, f"PostgreSQL ended: {log[-1000:]}"
        try:
            self.connect().close()
        except psycopg.OperationalError:
            return False
        return True
