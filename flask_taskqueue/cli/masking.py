"""Arguments of a job as people may see them."""

from __future__ import annotations

import inspect
import typing as t
from itertools import zip_longest

from ..appstate import AppState
from ..joblog import MASK, brief_repr, is_secret
from ..readable import UNREADABLE
from ..registry import AnyTask
from ..result import AsyncResult
from .code import loaded_tasks

MOST = 10_000
"""Characters of arguments shown."""


def shown_arguments(state: AppState, job_id: str) -> tuple[str, str]:
    """A job's positional and keyword arguments as text, without secrets.

    Of a task that is known here, positional ones are told by the names of its
    parameters. Where they cannot be read, or a secret among them cannot be told,
    there is the name of the reason in their place.
    """
    result: AsyncResult[t.Any] = AsyncResult(job_id, state)
    redact = state.config.redact
    try:
        args, kwargs = result.args or [], result.kwargs or {}
        name = result.name or ""
    except UNREADABLE as error:
        return _instead(error), _instead(error)
    shown = brief_repr(kwargs, redact, MOST)
    task = t.cast(AnyTask | None, state.tasks.get(name))
    if task is None and args:
        try:
            task = loaded_tasks()[1].get(name)
        except Exception as error:  # noqa: BLE001 - importing runs the user's code
            # Which of them is a password only the task says.
            return _instead(error), shown
    names = parameters(task)[: len(args)] if task else []
    masked = [
        MASK if is_secret(name, redact) else value
        for name, value in zip_longest(names, args, fillvalue="")
    ]
    return brief_repr(masked, redact, MOST), shown


def _instead(error: Exception) -> str:
    return f"<{type(error).__name__}>"


def parameters(task: AnyTask) -> list[str]:
    """Names of a task's positional parameters, in order."""
    found = inspect.signature(task.function or task.run).parameters.values()
    names = [p.name for p in found if p.kind <= p.POSITIONAL_OR_KEYWORD]
    return names[1:] if task.function and task.bind else names
