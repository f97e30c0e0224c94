"""Jobs of plain ``rq`` producers: which functions may be imported, callbacks, webhooks,
repeats."""

from __future__ import annotations

import importlib
import inspect
import typing as t
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

from redis import Redis
from rq.serializers import JSONSerializer, PickleSerializer

from .. import _rq, coroutines
from ..errors import DecodeError
from ..job import StoredJob, TaskJob
from ..options import TaskOptions
from ..patterns import matches

_EVERY_EXCEPTION = TaskOptions(autoretry_for=(Exception,))

_RQ: dict[str, t.Any] = {"json": JSONSerializer, "pickle": PickleSerializer}


def repeats(stored: StoredJob) -> bool:
    """Whether a success lets it run again."""
    return b"repeats_left" in stored.fields and _is_plain(stored)


def has_webhooks(stored: StoredJob) -> bool:
    """Whether somebody wants to hear of its end over HTTP."""
    return b"webhooks" in stored.fields and _is_plain(stored)


def _is_plain(stored: StoredJob) -> bool:
    # Not by its name, which may be impossible to read.
    return not stored.fields.get(b"tq_task")


def is_admitted(name: str, patterns: t.Collection[str]) -> bool:
    """Whether ``TASKQUEUE_IMPORTABLE`` allows a dotted name."""
    return any(matches(pattern, name) for pattern in patterns)


def resolve(name: str, patterns: t.Collection[str]) -> t.Callable[..., t.Any] | None:
    """The function of a dotted name, or ``None`` where it is not admitted.

    Only a module's own function, or a method of its own class: a pattern such as
    ``myapp.jobs.*`` must not admit ``myapp.jobs.os.system`` because that module
    happens to import ``os``.

    :raises ImportError: It is admitted and there is no such function, or its module
        cannot be imported.
    """
    if not is_admitted(name, patterns):
        return None
    parts = name.split(".")
    for size in (1, 2):
        module_name, path = ".".join(parts[:-size]), parts[-size:]
        if not module_name or module_name[0] == ".":
            break
        try:
            module = importlib.import_module(module_name)
        except ModuleNotFoundError as error:
            # A class is not a module: look one level up. A module that is missing
            # inside the admitted one is an error of that module.
            if f"{module_name}.".startswith(f"{error.name}."):
                continue
            raise
        function = _own_function(module, path)
        if function is not None:
            return function
        break
    raise ImportError(f"no module has a function {name!r} of its own")


def _own_function(module: t.Any, path: Sequence[str]) -> t.Callable[..., t.Any] | None:
    found = module
    for part in path:
        found = inspect.getattr_static(found, part, None)
        if isinstance(found, (staticmethod, classmethod)):
            found = getattr(getattr(module, path[0]), part)
    if not callable(found) or getattr(found, "__module__", None) != module.__name__:
        return None
    return t.cast("t.Callable[..., t.Any]", found)


class PlainFunction:
    """An imported function, run as a task would be."""

    __slots__ = ("__weakref__", "function", "name", "options")

    def __init__(self, name: str, function: t.Callable[..., t.Any]) -> None:
        self.name: str = name
        self.function: t.Callable[..., t.Any] = function
        # RQ retries whatever is raised, as long as retries are left.
        self.options: TaskOptions = _EVERY_EXCEPTION

    def check_args(self, args: Sequence[t.Any], kwargs: Mapping[str, t.Any]) -> None:
        """Plain functions are called with what came."""

    def invoke(self, args: Sequence[t.Any], kwargs: Mapping[str, t.Any]) -> t.Any:
        """Call the function; a coroutine is run to its end, as RQ does."""
        return coroutines.finished(self.function(*args, **kwargs))


class PlainJob:
    """What RQ promises around the function of one of its jobs.

    :param client: Callbacks get it as their connection.
    :param patterns: ``TASKQUEUE_IMPORTABLE``; callbacks are imported, too.
    :param data: Its call, decompressed.
    :param content: ``json`` or ``pickle``: an accepted one, RQ decodes with it.
    """

    def __init__(
        self,
        stored: StoredJob,
        client: Redis | None,
        patterns: t.Collection[str],
        *,
        data: bytes,
        content: str,
    ) -> None:
        self._patterns = patterns
        self._job = TaskJob(stored.id, connection=client, serializer=_RQ[content])
        # What RQ would decode at once: an older run's result and error, of any size.
        unread = (b"result", b"exc_info")
        fields = {k: v for k, v in stored.fields.items() if k not in unread}
        try:
            self._job.restore({**fields, b"data": data})
        except (ValueError, TypeError, LookupError, AttributeError) as error:
            raise DecodeError(f"RQ cannot read the job: {error!a:.200}") from error

    @contextmanager
    def running(self) -> Iterator[None]:
        """``rq.get_current_job()`` answers inside."""
        with _rq.current_job(self._job):
            yield

    def call_back(self, kind: str, *args: t.Any) -> tuple[float, t.Callable[[], t.Any]]:
        """Time-out in seconds, and the call of a callback; one that does nothing
        where the job has none.

        :param kind: ``success``, ``failure`` or ``stopped``.
        :raises PermissionError: ``TASKQUEUE_IMPORTABLE`` does not admit it.
        """
        found = _rq.callback_of(self._job, kind)
        if found is None:
            return 60.0, lambda: None
        name, seconds = found
        function = resolve(name, self._patterns)
        if function is None:
            raise PermissionError(
                f"the job's {kind} callback {name!r} is not in TASKQUEUE_IMPORTABLE"
            )
        return seconds, lambda: function(self._job, self._job.connection, *args)

    def webhooks(
        self, status: str, exc_string: str
    ) -> list[tuple[float, t.Callable[[], None]]]:
        """Time-out in seconds and call of each webhook for its end.

        :param status: ``finished`` or ``failed``.
        """
        return _rq.webhooks_of(self._job, status, exc_string)
