"""What a subclass of Task may do around its jobs."""

from __future__ import annotations

import typing as t
from collections.abc import Mapping, Sequence


class Hooks:
    """Methods that do nothing, for subclasses of :class:`.task.Task` to override.

    They are called in the process that runs the job, inside its app context and
    before its end is stored; an ``async def`` one is run to its end. What one raises
    is logged and changes nothing, except in :meth:`before_start`. Order and calls are
    Celery's: an execution that raises ``Ignore`` or ``Reject(requeue=True)`` calls
    none but :meth:`before_start`.
    """

    overridden: t.ClassVar[frozenset[str]] = frozenset()
    """Names of the hooks that a class or its bases define: the others are not
    called. Decided when the class is made."""

    def __init_subclass__(cls, **kwargs: t.Any) -> None:
        super().__init_subclass__(**kwargs)
        cls.overridden = frozenset(
            name for name in NAMES if getattr(cls, name) is not getattr(Hooks, name)
        )

    def before_start(
        self, task_id: str, args: Sequence[t.Any], kwargs: Mapping[str, t.Any]
    ) -> None:
        """Before each execution, within its soft time limit.

        What it raises is the execution's exception: ``Retry`` and ``Ignore`` do what
        they do in the function, which is not called.
        """

    def on_success(
        self,
        retval: t.Any,
        task_id: str,
        args: Sequence[t.Any],
        kwargs: Mapping[str, t.Any],
    ) -> None:
        """After the function returned what can be stored."""

    def on_retry(
        self,
        exc: BaseException | None,
        task_id: str,
        args: Sequence[t.Any],
        kwargs: Mapping[str, t.Any],
        einfo: str,
    ) -> None:
        """After an execution that will be repeated.

        :param exc: What made it necessary; ``None`` where ``retry()`` was called
            without ``exc`` and outside an ``except`` block.
        :param einfo: The traceback as text; ``""`` without ``exc``.
        """

    def on_failure(
        self,
        exc: BaseException,
        task_id: str,
        args: Sequence[t.Any],
        kwargs: Mapping[str, t.Any],
        einfo: str,
    ) -> None:
        """After an execution that failed for good. Where its process was killed,
        another one calls it, and :meth:`after_return`.

        :param einfo: The traceback as text; of a killed process at most its last line.
        """

    def after_return(
        self,
        status: str,
        retval: t.Any,
        task_id: str,
        args: Sequence[t.Any],
        kwargs: Mapping[str, t.Any],
        einfo: str | None,
    ) -> None:
        """Last, after an execution that ended the job.

        :param status: ``SUCCESS``, ``FAILURE``, or ``REVOKED`` where it was stopped.
        :param retval: What it returned, or the exception.
        :param einfo: The traceback as text; ``None`` after a success.
        """


NAMES: tuple[str, ...] = (
    "before_start",
    "on_success",
    "on_retry",
    "on_failure",
    "after_return",
)
"""Of all hooks."""
