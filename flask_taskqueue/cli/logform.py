"""The log as JSON: one object a line, for what reads logs by machine."""

from __future__ import annotations

import json
import logging
import sys
import typing as t
from collections.abc import Iterator
from datetime import UTC, datetime


class JsonFormatter(logging.Formatter):
    """A record as one JSON object on one line.

    ``time`` (ISO 8601 with offset and milliseconds), ``level``, ``logger``,
    ``message``, ``job_id``, ``task``, ``queue``, ``exception`` (the traceback, and the
    stack that was asked for); ``null`` is what a record does not say.
    """

    def format(self, record: logging.LogRecord) -> str:
        """Turn a record into a line."""
        said = record.__dict__
        task_id = said.get("task_id")
        moment = datetime.fromtimestamp(record.created, UTC)
        return json.dumps(
            {
                "time": moment.isoformat(timespec="milliseconds"),
                "level": record.levelname,
                "logger": record.name,
                "message": record.getMessage(),
                "job_id": said.get("job_id") or (None if task_id == "-" else task_id),
                "task": said.get("task") or said.get("task_name") or None,
                "queue": said.get("queue") or None,
                "exception": self._trouble(record),
            },
            ensure_ascii=False,
            default=str,
        )

    def _trouble(self, record: logging.LogRecord) -> str | None:
        parts = [self.formatException(record.exc_info)] if record.exc_info else []
        if not parts and record.exc_text:
            parts.append(record.exc_text)
        if record.stack_info:
            parts.append(self.formatStack(record.stack_info))
        return "\n".join(parts) or None


def log_json() -> None:
    """Let every handler that writes to the terminal write JSON, and warnings, too.

    Those that write elsewhere keep their form.
    """
    logging.captureWarnings(True)
    for handler in _handlers():
        if is_terminal(handler):
            handler.setFormatter(JsonFormatter())


def is_terminal(handler: logging.Handler) -> bool:
    """Whether it writes to stdout or stderr."""
    stream: t.Any = getattr(handler, "stream", None)
    return stream in (sys.stdout, sys.stderr)


def _handlers() -> Iterator[logging.Handler]:
    yield from logging.getLogger().handlers
    for logger in list(logging.Logger.manager.loggerDict.values()):
        if isinstance(logger, logging.Logger):
            yield from logger.handlers
