"""What a subclass of Task may do around its jobs."""

from __future__ import annotations

import typing as t
from collections.abc import Mapping, Sequence


class Hooks:
    """Methods that do nothing, for subclasses of :class:`.task.Task`.

    They are called in the process that runs the job, inside its app context. What
    one raises is logged and changes nothing, except in :meth:`before_start`.
    """

    def before_start(
        self, task_id: str, args: Sequence[t.Any], kwargs: Mapping[str, t.Any]
    ) -> None:
        """Before each execution. What it raises is the execution's exception."""

    def on_success(
        self,
        retval: t.Any,
        task_id: str,
        args: Sequence[t.Any],
        kwargs: Mapping[str, t.Any],
    ) -> None:
        """After the function returned, before the result is stored."""

    def on_retry(
        self,
        exc: BaseException,
        task_id: str,
        args: Sequence[t.Any],
        kwargs: Mapping[str, t.Any],
        einfo: str,
    ) -> None:
        """After an execution that will be repeated.

        :param einfo: The traceback as text.
        """

    def on_failure(
        self,
        exc: BaseException,
        task_id: str,
        args: Sequence[t.Any],
        kwargs: Mapping[str, t.Any],
        einfo: str,
    ) -> None:
        """After an execution that failed for good, before that is stored.

        :param einfo: The traceback as text.
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
        """After every execution, last.

        :param status: The state it leads to: ``SUCCESS``, ``RETRY`` or ``FAILURE``.
        :param retval: What it returned, or the exception.
        :param einfo: The traceback as text, if there is one.
        """
