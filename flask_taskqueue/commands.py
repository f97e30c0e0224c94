"""Commands sent to a worker over its channel: RQ's, and two of ours. Pure."""

from __future__ import annotations

import json
import typing as t
from dataclasses import dataclass

SHUTDOWN, STOP_JOB, KILL_HORSE = "shutdown", "stop-job", "kill-horse"
"""RQ's (rq 2.12, ``rq.command``)."""

QUIET, PING = "quiet", "ping"
"""Ours."""


@dataclass(frozen=True, slots=True)
class Command:
    """One command.

    :param kind: Any word: a worker leaves out those it does not know.
    :param job_id: Of ``stop-job``: which one.
    :param answer_to: Of ``ping``: channel of the answer.
    """

    kind: str
    job_id: str = ""
    answer_to: str = ""

    def dumps(self) -> str:
        """As :func:`loads` reads it, and RQ's workers."""
        return json.dumps({"command": self.kind, "answer_to": self.answer_to})


def loads(data: bytes) -> Command | None:
    """Read a command; ``None`` if it is none."""
    try:
        document: t.Any = json.loads(data)
        kind = document["command"]
        found = {name: document.get(name, "") for name in ("job_id", "answer_to")}
    except (ValueError, LookupError, TypeError, AttributeError):
        return None
    if not all(isinstance(value, str) for value in (kind, *found.values())):
        return None
    return Command(kind, **found)
