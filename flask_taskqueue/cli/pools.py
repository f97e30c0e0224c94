"""The pools of ``flask worker``: what each can do, what it refuses, how it runs."""

from __future__ import annotations

import inspect
import logging
import os
import threading
from collections.abc import Iterator
from dataclasses import dataclass

import click

from ..appstate import AppState
from ..options import UNSET
from ..task import Task
from ..worker.prefork import PreforkPool
from ..worker.solo import SoloPool
from ..worker.supervisor import GAVE_BACK, Supervisor

NOT_OFFERED = {
    "eventlet": "its authors advise against eventlet; use gevent or threads",
}


@dataclass(frozen=True, slots=True)
class Kind:
    """What a pool can do.

    :param auto: Slots unless somebody says how many; ``None`` is one for each CPU.
    :param most: Slots it can have; ``None`` for any number.
    :param shared: One process has all of them.
    :param kills: It can end a running job.
    :param coroutines: It can run ``async def`` tasks.
    """

    auto: int | None = None
    most: int | None = None
    shared: bool = False
    kills: bool = True
    coroutines: bool = True


KINDS: dict[str, Kind] = {
    "prefork": Kind(),
    "threads": Kind(auto=8, shared=True),
    "gevent": Kind(auto=100, shared=True, coroutines=False),
    "solo": Kind(auto=1, most=1, kills=False),
}

FILES_PER_SLOT, FILES = 10, 256
"""Open files a process with many slots may need: for each, and for the rest."""


def checked(ctx: click.Context, param: click.Parameter, value: str) -> str:
    """Check a pool's name, with a word on those people know from elsewhere."""
    if value not in KINDS:
        hint = NOT_OFFERED.get(value, f"choose from {', '.join(KINDS)}")
        raise click.BadParameter(f"there is no pool {value!r}: {hint}")
    return value


def refuse_the_impossible(pool: str, state: AppState, slots: int) -> None:
    """What a pool cannot do is wrong usage, not a surprise later.

    :param slots: How many it is to have.
    :raises click.UsageError: It cannot do what the command or the app asks for.
    """
    kind = KINDS[pool]
    if kind.most is not None and slots > kind.most:
        raise click.UsageError(f"-P {pool} runs one job at a time, got -c {slots}")
    if not kind.kills and (limits := list(_hard_limits(state))):
        raise click.UsageError(
            f"-P {pool} cannot stop a running job, so it cannot keep "
            + ", ".join(limits)
        )
    if not kind.coroutines and (names := list(_coroutines(state))):
        raise click.UsageError(
            f"-P {pool} cannot run tasks that are 'async def', which -P threads and"
            f" -P prefork can: {', '.join(names)}"
        )
    if kind.shared:
        _allow_files(FILES + FILES_PER_SLOT * slots, slots)


def _hard_limits(state: AppState) -> Iterator[str]:
    if state.config.time_limit is not None:
        yield "TASKQUEUE_TIME_LIMIT"
    for name, task in sorted(state.tasks.items()):
        if task.options.time_limit not in (UNSET, None):
            yield f"the time_limit of {name}"


def _coroutines(state: AppState) -> Iterator[str]:
    for name, task in sorted(state.tasks.items()):
        if isinstance(task, Task) and inspect.iscoroutinefunction(
            task.function or task.run
        ):
            yield name


def _allow_files(wanted: int, slots: int) -> None:
    """Let this process and its children open as many files.

    :raises click.UsageError: The system does not allow that.
    """
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or soft >= wanted:
        return
    if hard != resource.RLIM_INFINITY and hard < wanted:
        raise click.UsageError(
            f"-c {slots} needs up to {wanted} open files in one process, and the system"
            f" allows {hard}: raise that (ulimit -Hn, LimitNOFILE=), or take fewer"
        )
    resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def run(pool: str, state: AppState, supervisor: Supervisor) -> int:
    """Run a worker with this pool; its exit code."""
    if pool == "solo":
        return _run_solo(state, supervisor)
    if pool == "threads":
        from ..worker.threads import ThreadPool

        supervisor.use(ThreadPool(state, supervisor.disown))
    elif pool == "gevent":
        from ..worker.greenlets import GreenletPool

        supervisor.use(GreenletPool(state, supervisor.disown))
    else:
        supervisor.use(PreforkPool(state, supervisor.disown))
    return supervisor.run()


def _run_solo(state: AppState, supervisor: Supervisor) -> int:
    """The slot needs the main thread for its soft limits, so the supervisor is the
    one that gets a thread."""
    pool = SoloPool(state)
    supervisor.use(pool)
    codes: list[int] = []
    failures: list[Exception] = []
    started = threading.Event()

    def supervise() -> None:
        try:
            codes.append(supervisor.run(on_staffed=started.set))
        except Exception as error:  # noqa: BLE001 - raised below, in the main thread
            failures.append(error)
        if GAVE_BACK in codes:
            # The job that was given back still runs in the main thread.
            logging.shutdown()
            os._exit(GAVE_BACK)

    thread = threading.Thread(target=supervise, name="supervisor")
    thread.start()
    started.wait()
    pool.run()
    thread.join()
    if failures:
        raise failures[0]
    return codes[0]
