"""The part of a TaskQueue that declares entries, and manages them at run time.

The beat package is imported on first use: most processes never need it.
"""

from __future__ import annotations

import typing as t
from collections.abc import Mapping, Sequence

from .appstate import AppState, Provided
from .options import CallOptions
from .registry import AnyTask
from .signature import Signature

if t.TYPE_CHECKING:
    from .beat.declared import AnySchedule, PeriodicDecorator, PeriodicOptions, Rules
    from .beat.runtime import Schedules


class Periodic:
    """The part of a TaskQueue that is about entries."""

    _provided: Provided

    if t.TYPE_CHECKING:
        # What the rest of a TaskQueue has.
        @property
        def state(self) -> AppState: ...

        @property
        def tasks(self) -> Mapping[str, AnyTask]: ...

        def task(self, /, *args: t.Any, **kwargs: t.Any) -> t.Any: ...

    def periodic(
        self,
        schedule: AnySchedule,
        name: str | None = None,
        args: Sequence[t.Any] = (),
        kwargs: Mapping[str, t.Any] | None = None,
        *,
        options: CallOptions | None = None,
        **rules: t.Unpack[Rules],
    ) -> PeriodicDecorator:
        """Decorate a task, or a function that becomes one: beat enqueues it when it is
        due.

        :param schedule: Seconds, a ``timedelta``, a ``datetime`` (once), a cron text,
            ``every(…)`` or ``crontab(…)``.
        :param name: The entry's name; by default the task's.
        :param args: Positional arguments of each call.
        :param kwargs: Keyword arguments of each call.
        :param options: Options of ``apply_async``.
        :param rules: ``tz``, ``enabled``, ``overlap``, ``misfire`` and ``grace``, as
            in ``TASKQUEUE_BEAT_SCHEDULE``.
        :raises TypeError: The arguments do not fit, or a value is of the wrong type.
        :raises ValueError: A value cannot be used, or the name is taken.
        """
        from .beat import declared

        parts = {"args": args, "kwargs": kwargs, "options": options, **rules}
        known = self._provided.entries
        return declared.decorator(
            self.tasks, self.task, known, schedule=schedule, name=name, parts=parts
        )

    def add_periodic_task(
        self,
        schedule: AnySchedule,
        signature: Signature,
        args: Sequence[t.Any] = (),
        kwargs: Mapping[str, t.Any] | None = None,
        name: str | None = None,
        **options: t.Unpack[PeriodicOptions],
    ) -> None:
        """Let beat enqueue a call when it is due; see :meth:`periodic`.

        :param signature: Such as ``add.s(1, 2)``.
        :param args: Put before the signature's own; ``kwargs`` are added to them.
        :param name: The entry's name; by default the ``repr()`` of the call.
        :param options: Options of ``apply_async``, and the rules of :meth:`periodic`.
        :raises TypeError: The arguments do not fit, or a value is of the wrong type.
        :raises ValueError: A value cannot be used, or the name is taken.
        """
        from .beat import declared

        known = self._provided.entries
        declared.add(
            known,
            signature,
            schedule=schedule,
            args=args,
            kwargs=kwargs,
            name=name,
            given=options,
        )

    @property
    def schedules(self) -> Schedules:
        """The current app's entries: to be made, changed and triggered at run time."""
        from .beat.runtime import Schedules

        return Schedules(self)
