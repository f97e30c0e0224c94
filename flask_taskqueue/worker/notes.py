"""What a claim met on its way: a log line for each job it dropped, and a signal."""

from __future__ import annotations

import logging

from ..appstate import AppState
from ..broker.wire import Note
from . import aftermath, callbacks
from .execution import Executor
from .line import Line

logger: logging.Logger = logging.getLogger(__name__)


def tell(note: Note, state: AppState, line: Line) -> None:
    """Log a note about a job that was not taken, and send its signal."""
    wrong = note.kind in ("quarantined", "given up")
    logger.log(
        logging.ERROR if wrong else logging.INFO, "Job %s of queue %s %s %s",
        note.id, note.queue, note.kind, note.reason,
        extra={"job_id": note.id, "queue": note.queue, "task": ""},
    )  # fmt: skip
    line.until_answered(lambda _: callbacks.dropped(state, line.client, note))


def killed(note: Note, line: Line, executor: Executor) -> aftermath.Killed | None:
    """The killed job whose hooks are to be called; ``None`` where it is gone."""
    return line.until_answered(lambda _: aftermath.read(executor, line.client, note))
