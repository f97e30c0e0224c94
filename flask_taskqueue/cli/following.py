"""Waits for the end of a job, and shows its progress meanwhile."""

from __future__ import annotations

import math
import shutil
import sys
import time
import typing as t
from contextlib import contextmanager

import click

from ..appstate import AppState
from ..errors import BrokerUnavailable
from ..inspector import Snapshot, snapshot
from ..web.describe import progress
from ..web.watching import Hub, Watch
from .printing import cut, printable, unavailable

_STEPS = 1000

_WORDS_MOST = 40
"""Characters of what a job says beside the bar."""

_WAIT_MOST = 3600.0
"""Seconds of one wait: threads cannot wait for ever."""


class _Seconds(click.FloatRange):
    """A time of 0 or more, which "nan" is not."""

    def __init__(self) -> None:
        super().__init__(min=0)

    def convert(
        self, value: t.Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        """Read it."""
        number: float = super().convert(value, param, ctx)
        if math.isnan(number):
            self.fail("expected seconds, got nan", param, ctx)
        return number


timeout_option: t.Callable[[t.Any], t.Any] = click.option(
    "--timeout", type=_Seconds(), help="Seconds to wait."
)


def follow(state: AppState, job_id: str, timeout: float | None = None) -> Snapshot:
    """Wait until a job has ended, or the time is up; the job as it is then.

    While Redis is away it goes on waiting, and says so once.

    :param timeout: Seconds; ``None`` is for ever.
    :raises BrokerUnavailable: Redis was away from the beginning, or is at the end.
    :raises DecodeError: It cannot be read.
    """
    job = snapshot(state, job_id)
    if job.ready:
        return job
    deadline = math.inf if timeout is None else time.monotonic() + timeout
    watch = t.cast(Watch, Hub(state, 1).watch(job_id))
    lost: BrokerUnavailable | None = None
    try:
        with _shown() as show:
            while not job.ready and (left := deadline - time.monotonic()) > 0:
                show(job)
                try:
                    news = watch.next(min(left, _WAIT_MOST))
                except BrokerUnavailable as error:
                    if lost is None:
                        _say(f"{unavailable(error)} (waiting on)")
                    lost = error
                else:
                    job, lost = (job, lost) if news is None else (news, None)
    finally:
        watch.close()
    if lost is not None:
        raise lost
    return job


def _say(text: str) -> None:
    # A bar leaves the cursor behind it.
    click.echo("\n" * sys.stderr.isatty() + text, err=True)


@contextmanager
def _shown() -> t.Iterator[t.Callable[[Snapshot], None]]:
    """Where progress is shown: a bar on a terminal, nothing elsewhere."""
    if not sys.stderr.isatty():
        yield lambda job: None
        return
    with click.progressbar(
        length=_STEPS, show_eta=False, file=sys.stderr, width=0
    ) as bar:

        def show(job: Snapshot) -> None:
            done, words = read_progress(job)
            bar.label = cut(words, shutil.get_terminal_size().columns // 2)
            bar.make_step(int(done * _STEPS) - bar.pos)
            bar.render_progress()

        yield show


def read_progress(job: Snapshot) -> tuple[float, str]:
    """How far a job says it is, from 0 to 1, and in which words."""
    said = progress(job)
    if not isinstance(said, dict):
        return 0.0, job.state
    done, total = said.get("current"), said.get("total")
    message = said.get("message") or job.state
    share = 0.0
    if _is_number(done) and _is_number(total) and total > 0:
        share = min(max(done / total, 0.0), 1.0)
    return share, printable(cut(str(message), _WORDS_MOST))


def _is_number(value: object) -> t.TypeGuard[float]:
    is_one = isinstance(value, (int, float)) and not isinstance(value, bool)
    return is_one and math.isfinite(t.cast(float, value))
