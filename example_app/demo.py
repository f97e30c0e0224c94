"""``flask demo``: a worker and a web server together; ``--check`` tries them out."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
import typing as t
from contextlib import contextmanager, suppress
from pathlib import Path

import click
from flask import current_app
from flask.cli import with_appcontext

from .check import run_check


class Services:
    """The worker and the web server: processes that end before this one."""

    def __init__(self, port: int, output: t.IO[bytes] | None) -> None:
        self.stopping = False
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, self._stop)
        self.processes = {
            arguments[0]: subprocess.Popen(  # noqa: S603 - these two commands only
                [sys.executable, "-m", "flask", "--app", __package__, *arguments],
                cwd=Path(__file__).parents[1],
                stdout=output,
                stderr=output,
                # Ctrl-C in a terminal reaches this process only, which stops both.
                start_new_session=True,
            )
            for arguments in (["worker"], ["run", f"--port={port}", "--no-reload"])
        }

    def _stop(self, *_: object) -> None:
        self.stopping = True

    def pause(self, seconds: float) -> None:
        """Waits.

        :raises click.Abort: This process was asked to stop.
        :raises click.ClickException: One of the two has ended by itself.
        """
        time.sleep(seconds)
        if self.stopping:
            raise click.Abort
        for name, process in self.processes.items():
            if (status := process.poll()) is not None:
                raise click.ClickException(f"'flask {name}' ended, status {status}")

    def close(self) -> None:
        """Asks both to end, and kills who has not within half a minute."""
        for process in self.processes.values():
            process.terminate()
        for process in self.processes.values():
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)


def free_port() -> int:
    """A TCP port nobody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


def listening(port: int) -> bool:
    """Whether somebody listens on a port."""
    with socket.socket() as client:
        return client.connect_ex(("127.0.0.1", port)) == 0


@contextmanager
def running(port: int, output: t.IO[bytes] | None) -> t.Iterator[Services]:
    """Both services, from when the web server listens."""
    services = Services(port, output)
    try:
        while not listening(port):
            services.pause(0.1)
        yield services
    finally:
        services.close()


def checked(port: int, url: str) -> None:
    """Runs the check; what the services print is shown only if it fails."""
    log = Path(current_app.instance_path, "demo.log")
    try:
        with log.open("wb") as output, running(port, output) as services:
            run_check(url, services.pause)
    except Exception:
        click.echo(log.read_text("utf-8", "replace")[-4000:], err=True)
        raise


@click.command()
@click.option("--port", type=click.IntRange(1, 65535), help="Default: a free one.")
@click.option("--check", is_flag=True, help="Try it out without a browser, then end.")
@with_appcontext
def demo(port: int | None, check: bool) -> None:
    """Run a worker and the web app together until Ctrl-C."""
    port = port or free_port()
    url = f"http://127.0.0.1:{port}"
    if check:
        checked(port, url)
        return
    with suppress(click.Abort), running(port, None) as services:
        click.echo(f"Open {url} in a browser. Ctrl-C stops.")
        while True:
            services.pause(0.2)
