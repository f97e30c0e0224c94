"""Headless Chromium, and a web server for it to visit."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import typing as t
from contextlib import contextmanager

from .processes import AppFolder
from .servers import eventually, free_port

if t.TYPE_CHECKING:
    from playwright.sync_api import Browser

SWITCHES = (
    "--no-sandbox",  # Tests may run as root.
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)

PATIENCE = 10_000
"""Milliseconds a page may take to show what is expected."""


def binary() -> str | None:
    """Where Chromium is."""
    return shutil.which("chromium") or shutil.which("chromium-browser")


@contextmanager
def running(path: str) -> t.Iterator[Browser]:
    """A new browser without a past.

    Not for longer than a module: while Playwright runs, an event loop does in this
    thread, and ``asyncio.run()`` is refused to all tests.
    """
    from playwright.sync_api import expect, sync_playwright

    expect.set_options(timeout=PATIENCE)
    with sync_playwright() as playwright:
        # Makes a user data directory of its own, and removes it.
        browser = playwright.chromium.launch(executable_path=path, args=SWITCHES)
        try:
            yield browser
        finally:
            browser.close()


class Web:
    """A ``flask run`` process that can be stopped and started again on its port.

    :param env: More environment variables.
    """

    def __init__(self, folder: AppFolder, **env: str) -> None:
        self._folder = folder
        self._env = {**folder.env, **env}
        self.port = free_port()
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """Of its root, without a slash at the end."""
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> Web:
        """Start it and wait until it listens."""
        with (self._folder.folder / f"web-{self.port}.log").open("ab") as log:
            self._process = subprocess.Popen(
                self._folder.command("run", f"--port={self.port}", "--no-reload"),
                cwd=self._folder.folder,
                env=self._env,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        eventually(self._listens, message="the web server listens")
        return self

    def stop(self) -> None:
        """Kill it, with all connections it has."""
        process, self._process = self._process, None
        if process is not None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait(10)

    def __enter__(self) -> Web:
        return self.start()

    def __exit__(self, *exc_info: object) -> None:
        self.stop()

    def _listens(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, "the web server ended"
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0
