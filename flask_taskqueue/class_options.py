"""Options of a task that a class gives as attributes: found, checked, put in force."""

from __future__ import annotations

import inspect
import typing as t
from collections.abc import Callable

from .nearest import hint
from .options import UNSET, DecoratorOptions

NAMES: frozenset[str] = frozenset(DecoratorOptions.__optional_keys__)
"""Of the options that a class can have beside its ``name``."""

REFUSED: frozenset[str] = frozenset({
    "acks_late", "acks_on_failure_or_timeout", "base", "bind", "compression",
    "concurrency", "countdown", "encrypt", "eta", "rate_limit", "reject_on_worker_lost",
    "retry_kwargs", "send_events", "store_eager_result",
    "store_errors_even_if_ignored", "track_started", "typing", "unique",
})  # fmt: skip
"""Options of Celery's tasks, of decorators and of calls: in a class they do nothing."""


class InForce:
    """An option that a class declares and a task answers with the value in force.

    :param read: Gives it, of a task.
    :param declared: What the class says; ``UNSET`` where it says nothing.
    """

    def __init__(self, read: Callable[[t.Any], t.Any], declared: object = UNSET):
        self._read = read
        self._declared = declared

    def __get__(self, task: object, kind: type | None = None) -> t.Any:
        return self._declared if task is None else self._read(task)

    def declare(self, value: object) -> InForce:
        """The same for a class that says this."""
        return InForce(self._read, value)


def prepare(kind: type, in_force: t.Mapping[str, InForce]) -> None:
    """Check the attributes of a new class, and put some of its options in force.

    :param in_force: The options a task answers with the value in force.
    :raises TypeError: An attribute looks like an option, and is none.
    """
    for name, value in vars(kind).items():
        # Methods and properties may have any name.
        if not name.startswith("_") and not hasattr(type(value), "__get__"):
            _check(kind, name)
    for name, option in in_force.items():
        value = inspect.getattr_static(kind, name)
        if not isinstance(value, InForce):
            setattr(kind, name, option.declare(value))


def _check(kind: type, name: str) -> None:
    if name in NAMES or name == "name":
        return
    foreign = name in REFUSED
    near = "" if foreign else hint(name, NAMES, 0.8)
    if foreign or near:
        raise TypeError(
            f"expected a known task option as an attribute of {kind.__qualname__}, or"
            f" a name that looks like none, got {name!r}{near}; known are"
            f" {', '.join(sorted(NAMES | {'name'}))}"
        )


def of_class(kind: type) -> dict[str, t.Any]:
    """The options a class has, inherited ones included."""
    given = {name: getattr(kind, name, UNSET) for name in NAMES}
    return {name: value for name, value in given.items() if value is not UNSET}


def check_decorator(options: t.Iterable[str]) -> None:
    """Return if all are options of a decorator.

    :raises TypeError: One is not.
    """
    for option in options:
        if option not in NAMES:
            known = sorted(NAMES | {"name", "bind", "base"})
            raise TypeError(
                f"expected a known task option, got {option!r}; known are"
                f" {', '.join(known)}"
            )
