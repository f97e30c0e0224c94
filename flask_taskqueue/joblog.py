"""What is logged of jobs: a task's own lines, and the worker's about it."""

from __future__ import annotations

import contextvars
import itertools
import logging
import typing as t

running: contextvars.ContextVar[tuple[str, str] | None] = contextvars.ContextVar(
    "flask_taskqueue_running", default=None
)
"""Task name and id of the job that runs here. The worker sets it."""

MAX_RESULT_CHARS = 100
MAX_ERROR_CHARS = 500
MAX_NAME_CHARS = 255

_MAX_DEPTH = 10
_MAX_INT_BITS = 1_000
MASK = "***"
"""Stands for a secret."""


def get_task_logger(name: str) -> logging.Logger:
    """The logger of this name, whose records know the job they come from.

    Every record has ``task_name`` and ``task_id`` (``""`` and ``"-"`` outside a
    job); while a job runs its message is shown as ``name[id]: message``. Level,
    handlers and propagation are left as they are, so that Flask's set-up decides.
    """
    logger = logging.getLogger(name)
    if not any(isinstance(known, JobFilter) for known in logger.filters):
        logger.addFilter(JobFilter())
    return logger


class JobFilter(logging.Filter):
    """Adds the running job to a record, and lets every record pass."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Add ``task_name`` and ``task_id``, and the prefix while a job runs.

        Attributes given with ``extra=`` are kept.
        """
        job = running.get()
        task, job_id = job or ("", "-")
        record.__dict__.setdefault("task_name", task)
        record.__dict__.setdefault("task_id", job_id)
        if job:
            # Arguments may be a dict, so the prefix cannot become one of them. It
            # is formatted only if there are any: "%" must be doubled only then.
            prefix = f"{_named(task, job_id)}: "
            if record.args:
                prefix = prefix.replace("%", "%%")
            record.msg = _Prefixed.of(prefix, record.msg)
        return True


def name_jobs_in_records() -> None:
    """Give every record of this process ``task_name`` and ``task_id``.

    For a worker: whatever logger a task uses, also a library's, a formatter may say
    ``%(task_id)s``. Values as :func:`get_task_logger` has them; what ``extra=`` or
    the app's own factory of records gives is kept. Does nothing the second time.
    """
    make = logging.getLogRecordFactory()
    if not isinstance(make, _JobRecords):
        logging.setLogRecordFactory(_JobRecords(make))


class _JobRecords:
    """A factory of records that know the job they come from.

    :param make: The factory before it.
    """

    def __init__(self, make: t.Callable[..., logging.LogRecord]) -> None:
        self._make = make

    def __call__(self, *args: t.Any, **kwargs: t.Any) -> logging.LogRecord:
        record = self._make(*args, **kwargs)
        task, job_id = running.get() or ("", "-")
        given = record.__dict__
        record.__dict__ = _Fields({"task_name": task, "task_id": job_id, **given})
        return record


class _Fields(dict[str, t.Any]):
    """A record's attributes, of which the two about the job may be given anew.

    logging refuses ``extra=`` with a name the record has (``Logger.makeRecord``),
    and an app may well have task ids of its own.
    """

    def __contains__(self, name: object) -> bool:
        return name not in ("task_name", "task_id") and super().__contains__(name)


class _Prefixed:
    """A message that is not text (logging takes any object), with a prefix.

    Turned into text as late as logging does it: where a ``__str__`` that raises is
    reported, and does not reach the code that logs.
    """

    def __init__(self, prefix: str, message: object) -> None:
        self._prefix = prefix
        self._message = message

    @classmethod
    def of(cls, prefix: str, message: object) -> str | _Prefixed:
        return prefix + message if isinstance(message, str) else cls(prefix, message)

    def __str__(self) -> str:
        return f"{self._prefix}{self._message!s}"


def received(task: str, job_id: str) -> str:
    """The line for a job that a slot took."""
    return f"Task {_named(task, job_id)} received"


def succeeded(task: str, job_id: str, seconds: float, result: str | None = None) -> str:
    """The line for a job that returned.

    :param seconds: How long it ran.
    :param result: From :func:`brief_repr`, cut to 100 characters. ``None`` leaves
        it out.
    """
    line = f"Task {_named(task, job_id)} succeeded in {seconds:.4f}s"
    return line if result is None else f"{line}: {_line(result, MAX_RESULT_CHARS)}"


def ignored(task: str, job_id: str) -> str:
    """The line for a job that ended itself with ``Ignore``."""
    return f"Task {_named(task, job_id)} ignored"


def failed(task: str, job_id: str, seconds: float | None, error: str) -> str:
    """The line for a job that failed for good.

    :param seconds: How long it ran; ``None`` where nobody knows (worker lost).
    :param error: ``repr`` of the exception, cut to 500 characters.
    """
    after = "" if seconds is None else f" in {seconds:.4f}s"
    return f"Task {_named(task, job_id)} failed{after}: {_error(error)}"


def retried(task: str, job_id: str, delay: float, error: str | None = None) -> str:
    """The line for a job that will run again.

    :param delay: Seconds until then.
    :param error: ``repr`` of the exception, cut to 500 characters; ``None`` where
        the task asked for the retry without one.
    """
    wait = f"{delay:.3f}".rstrip("0").rstrip(".")
    line = f"Task {_named(task, job_id)} retry: Retry in {wait}s"
    return line if error is None else f"{line}: {_error(error)}"


def revoked(task: str, job_id: str, reason: str = "") -> str:
    """The line for a job that was cancelled.

    :param reason: Which way, e.g. ``terminated`` or ``expired``.
    """
    line = f"Task {_named(task, job_id)} revoked"
    return f"{line}: {_error(reason)}" if reason else line


def parked(task: str, job_id: str, reason: str = "not registered here") -> str:
    """The line for a job kept until a worker comes that can run it."""
    return f"Task {_named(task, job_id)} parked: {_error(reason)}"


def brief_repr(
    value: object, redact: t.Collection[str] = (), limit: int = MAX_RESULT_CHARS
) -> str:
    """``repr(value)`` on one line, cut, and with secrets masked. Never raises.

    Containers are walked only as far as is shown. Of other objects ``repr`` is
    taken whole, then cut.

    :param redact: Words. The value of a dict's key that contains one, in any case,
        becomes ``***``.
    :param limit: Most characters; the last of a text that was cut is ``…``.
    """
    shown, length = [], 0
    try:
        for piece in _pieces(value, tuple(redact), limit, 0):
            shown.append(piece)
            length += len(piece)
            if length > limit:
                break
    except Exception:  # noqa: BLE001 - iterating can be the user's code
        return _line(f"<{type(value).__qualname__} object>", limit)
    return _line("".join(shown), limit)


def is_secret(name: str, words: t.Collection[str]) -> bool:
    """Whether a name contains one of the words, in any case."""
    return any(word.lower() in name.lower() for word in words)


def _pieces(
    value: t.Any, words: tuple[str, ...], limit: int, depth: int
) -> t.Iterator[str]:
    """The parts of a value's repr, made only as they are asked for."""
    if isinstance(value, t.Mapping):
        yield "{"
        items = value.items() if depth < _MAX_DEPTH else ()
        for number, (key, item) in enumerate(items):
            yield ", " if number else ""
            yield f"{_leaf(key, limit)}: "
            if isinstance(key, str) and is_secret(key, words):
                yield repr(MASK)
            else:
                yield from _pieces(item, words, limit, depth + 1)
        yield "}" if depth < _MAX_DEPTH else "...}"
    elif value and isinstance(value, list | tuple | set | frozenset):
        yield from _sequence_pieces(value, words, limit, depth)
    else:
        yield _leaf(value, limit)


def _sequence_pieces(
    value: t.Collection[t.Any], words: tuple[str, ...], limit: int, depth: int
) -> t.Iterator[str]:
    opening, closing = "{", "}"
    if isinstance(value, list):
        opening, closing = "[", "]"
    elif isinstance(value, tuple):
        opening, closing = "(", ",)" if len(value) == 1 else ")"
    elif isinstance(value, frozenset):
        opening, closing = "frozenset({", "})"
    yield opening
    if depth < _MAX_DEPTH:
        for number, item in enumerate(value):
            yield ", " if number else ""
            yield from _pieces(item, words, limit, depth + 1)
    else:
        yield "..."
    yield closing


def _leaf(value: object, limit: int) -> str:
    if isinstance(value, str | bytes | bytearray):
        # A long one is cut before its repr is made.
        return repr(value[: limit + 1])
    if isinstance(value, int) and value.bit_length() > _MAX_INT_BITS:
        # Python refuses to write the longest ones, and is slow with long ones.
        return f"<int of {value.bit_length()} bits>"
    try:
        return repr(value)
    except Exception:  # noqa: BLE001 - __repr__ is the user's code
        return f"<{type(value).__qualname__} object>"


def _named(task: str, job_id: str) -> str:
    return f"{_line(task, MAX_NAME_CHARS)}[{_line(job_id, MAX_NAME_CHARS)}]"


def _error(text: str) -> str:
    return _line(text, MAX_ERROR_CHARS)


def _line(text: str, limit: int) -> str:
    """Cut a text, and write line ends as escapes: nobody can forge a log line."""
    if len(text) <= limit and text.isprintable():
        return text
    escaped = itertools.islice(map(_escaped, text), limit + 1)
    line = "".join(escaped)
    return line if len(line) <= limit else line[: limit - 1] + "…"


def _escaped(char: str) -> str:
    if char.isprintable():
        return char
    return char.encode("unicode_escape").decode("ascii")
