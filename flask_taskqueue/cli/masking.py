"""Arguments of a job as people may see them."""

from __future__ import annotations

import inspect
import typing as t
from itertools import zip_longest

from ..appstate import AppState
from ..joblog import brief_repr
from ..registry import AnyTask
from ..result import AsyncResult
from .code import loaded_tasks

MOST = 10_000
"""Characters of arguments shown."""


def shown_arguments(state: AppState, job_id: str) -> tuple[str, str]:
    """A job's positional and keyword arguments as text, without secrets.

    Of a task that is known here, positional ones are told by the names of its
    parameters.

    :raises TaskQueueError: They cannot be decoded here.
    """
    result: AsyncResult[t.Any] = AsyncResult(job_id, state)
    args, kwargs = result.args or [], result.kwargs or {}
    words = [word.lower() for word in state.config.redact]
    task = loaded_tasks()[1].get(result.name or "")
    names = parameters(task)[: len(args)] if task else []
    shown = [
        "***" if any(word in name.lower() for word in words) else value
        for name, value in zip_longest(names, args, fillvalue="")
    ]
    redact = state.config.redact
    return brief_repr(shown, redact, MOST), brief_repr(kwargs, redact, MOST)


def parameters(task: AnyTask) -> list[str]:
    """Names of a task's positional parameters, in order."""
    found = inspect.signature(task.function or task.run).parameters.values()
    names = [p.name for p in found if p.kind <= p.POSITIONAL_OR_KEYWORD]
    return names[1:] if task.function and task.bind else names
