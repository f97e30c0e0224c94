"""Real ``flask`` processes for tests, in a folder where the checkout is not."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import signal
import subprocess
import sys
import types
import typing as t
from pathlib import Path

import flask_taskqueue

from .servers import eventually

APPS = Path(__file__).with_name("apps")
PACKAGE = Path(flask_taskqueue.__file__).parent


class Worker:
    """A ``flask worker`` or ``flask beat`` process group, its output in a file.

    :param log: Where stdout and stderr go.
    """

    def __init__(self, process: subprocess.Popen[bytes], log: Path) -> None:
        self.process = process
        self.log = log

    @property
    def pid(self) -> int:
        """Of the supervisor; of its process group, too."""
        return self.process.pid

    @property
    def output(self) -> str:
        """What it has printed."""
        return self.log.read_text("utf-8", "replace")

    def await_line(self, text: str, timeout: float = 15.0) -> None:
        """Wait until it has printed a text."""

        def there() -> bool:
            if text in self.output:
                return True
            assert self.process.poll() is None, f"it ended:\n{self.output}"
            return False

        eventually(there, timeout, f"{text!r} in the worker's output")

    @property
    def children(self) -> list[int]:
        """Pids of its child processes."""
        path = Path(f"/proc/{self.pid}/task/{self.pid}/children")
        return [int(pid) for pid in path.read_text().split()]

    def signal(self, number: int, *, group: bool = False) -> None:
        """Send a signal to the supervisor, or to the whole group."""
        if group:
            os.killpg(self.pid, number)
        else:
            self.process.send_signal(number)

    def stop(self, timeout: float = 30.0) -> int:
        """TERM, and its exit code."""
        if self.process.poll() is None:
            self.process.terminate()
        return self.process.wait(timeout)

    def kill(self) -> None:
        """SIGKILL to the whole group."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)
        self.process.wait(10)


def alive(pid: int) -> bool:
    """Whether a process runs; one that is dead and not waited for does not."""
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        stat = Path(f"/proc/{pid}/stat").read_text()
        return stat.rpartition(")")[2].split()[0] != "Z"
    return False


class AppFolder:
    """A folder with one of ``tests/apps``, where ``flask`` processes are started.

    :param url: ``TASKQUEUE_URL`` of the processes; ``None`` leaves it out.
    :param source: Text of the app, instead of one of ``tests/apps``.
    :param env: More environment variables.
    """

    def __init__(
        self,
        folder: Path,
        url: str | None,
        app: str = "jobs",
        *,
        source: str | None = None,
        **env: str,
    ) -> None:
        self.folder = folder
        self.app = app
        self.module_path = folder / f"{app}.py"
        if source is None:
            source = (APPS / f"{app}.py").read_text("utf-8")
        self.module_path.write_text(source, "utf-8")
        self.env = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("FLASK_", "TASKQUEUE_", "PYTHON"))
        }
        # The package under test, also where another checkout of it is installed.
        self.env |= {"PYTHONPATH": str(PACKAGE.parent), "PYTHONUNBUFFERED": "1", **env}
        if url is not None:
            self.env["FLASK_TASKQUEUE_URL"] = url
        self._workers: list[Worker] = []

    def module(self) -> types.ModuleType:
        """The app's module, loaded anew in this process under its own name."""
        spec = importlib.util.spec_from_file_location(self.app, self.module_path)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules[self.app] = module
        spec.loader.exec_module(module)
        return module

    def command(self, *args: str) -> list[str]:
        """A ``flask`` command line for this app."""
        return [sys.executable, "-m", "flask", "--app", self.app, *args]

    def flask(
        self, *args: str, timeout: float = 60.0
    ) -> subprocess.CompletedProcess[str]:
        """Run a ``flask`` command to its end."""
        return subprocess.run(
            self.command(*args),
            cwd=self.folder,
            env=self.env,
            capture_output=True,
            text=True,
            timeout=timeout,
        )

    def worker(self, *args: str, ready: bool = True, **env: str) -> Worker:
        """Start a worker in a process group of its own.

        :param ready: Wait until it takes jobs.
        """
        worker = self._start("worker", *args, **env)
        if ready:
            worker.await_line(" ready.")
        return worker

    def beat(self, *args: str, ready: bool = True, **env: str) -> Worker:
        """Start a beat in a process group of its own.

        :param ready: Wait until its entries are written.
        """
        beat = self._start("beat", *args, **env)
        if ready:
            beat.await_line("NEXT")
        return beat

    def _start(self, command: str, *args: str, **env: str) -> Worker:
        log = self.folder / f"{command}-{len(self._workers)}.log"
        with log.open("wb") as out:
            process = subprocess.Popen(
                self.command(command, *args),
                cwd=self.folder,
                env={**self.env, **env},
                stdout=out,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        worker = Worker(process, log)
        self._workers.append(worker)
        return worker

    def close(self) -> None:
        """Kill what is left of its workers and beats."""
        for worker in self._workers:
            worker.kill()
        sys.modules.pop(self.app, None)


Factory = t.Callable[..., AppFolder]
