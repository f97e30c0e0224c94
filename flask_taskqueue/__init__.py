"""Background tasks for Flask on RQ and Redis, called the way Celery's are."""

from __future__ import annotations

import typing as t

from .extension import TaskQueue as TaskQueue
from .jobinfo import JobInfo as JobInfo
from .joblog import get_task_logger as get_task_logger
from .registry import current_task as current_task
from .registry import shared_task as shared_task
from .result import AsyncResult as AsyncResult
from .task import Task as Task

if t.TYPE_CHECKING:
    from .beat.schedules import crontab as crontab
    from .beat.schedules import every as every

__all__ = [
    "AsyncResult",
    "JobInfo",
    "Task",
    "TaskQueue",
    "crontab",
    "current_task",
    "every",
    "get_task_logger",
    "shared_task",
]


def __getattr__(name: str) -> t.Any:
    if name == "__version__":
        from importlib.metadata import version

        return version("Flask-TaskQueue")
    if name in ("crontab", "every"):
        # Not everybody who calls tasks has schedules.
        from .beat import schedules

        return getattr(schedules, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
