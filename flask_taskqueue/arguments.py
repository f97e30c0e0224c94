"""Arguments of a call, held against a function's signature before it is enqueued."""

from __future__ import annotations

import inspect
import sys
import typing as t
from collections.abc import Mapping, Sequence
from pathlib import Path

_POSITIONAL = (
    inspect.Parameter.POSITIONAL_ONLY,
    inspect.Parameter.POSITIONAL_OR_KEYWORD,
)
_REST = inspect.Parameter.VAR_POSITIONAL

FORMS_MOST = 100
"""Forms of calls remembered for one task."""


class Shape:
    """A function's signature, with a quick answer for plain calls.

    ``Signature.bind`` takes as long as the rest of a call. It looks only at how many
    arguments there are and what the named ones are called: each such form of a call is
    held against it once, the most frequent one, without names, never.
    """

    __slots__ = ("_fitting", "_least", "_most", "_name", "signature")

    def __init__(
        self, name: str, function: t.Callable[..., t.Any], bound: bool
    ) -> None:
        signature = inspect.signature(function)
        parameters = list(signature.parameters.values())
        if bound:
            if not parameters or parameters[0].kind not in (*_POSITIONAL, _REST):
                raise TypeError(
                    f"expected {name} to have a first parameter for the task"
                    f" (bind=True), got {name}{signature}"
                )
            if parameters[0].kind is not _REST:
                del parameters[0]
        self._name = name
        self.signature: inspect.Signature = signature.replace(parameters=parameters)
        plain = [p for p in parameters if p.kind in _POSITIONAL]
        required = [p for p in plain if p.default is p.empty]
        others = [p for p in parameters if p.kind not in _POSITIONAL]
        needed = any(p.kind is p.KEYWORD_ONLY and p.default is p.empty for p in others)
        self._least = len(plain) + 1 if needed else len(required)
        self._most = len(plain)
        self._fitting: set[tuple[object, ...]] = set()

    def check(self, args: Sequence[t.Any], kwargs: Mapping[str, t.Any]) -> None:
        """Return if the arguments fit. :raises TypeError: They do not."""
        if not kwargs and self._least <= len(args) <= self._most:
            return
        form = (len(args), *kwargs)
        if form in self._fitting:
            return
        try:
            self.signature.bind(*args, **kwargs)
        except TypeError as error:
            raise TypeError(f"{self._name}{self.signature}: {error}") from None
        # A function that takes any name has any number of forms.
        if len(self._fitting) < FORMS_MOST:
            self._fitting.add(form)


def checked_arguments(
    args: object, kwargs: object
) -> tuple[Sequence[t.Any], Mapping[str, t.Any]]:
    """Positional and keyword arguments as ``apply_async`` takes them.

    :raises TypeError: ``args`` is no list or tuple (a string would be taken apart),
        or ``kwargs`` no mapping.
    """
    if args is not None and not isinstance(args, (list, tuple)):
        raise TypeError(f"expected args to be a list or tuple, got {args!r}")
    if kwargs is not None and not isinstance(kwargs, Mapping):
        raise TypeError(f"expected kwargs to be a mapping, got {kwargs!r}")
    return args or (), kwargs or {}


def module_of(function: t.Any) -> str:
    """Its module; in ``__main__`` the one the ``flask`` command sees."""
    module: str = function.__module__
    if module != "__main__":
        return module
    main = sys.modules["__main__"]
    spec = getattr(main, "__spec__", None)
    file = getattr(main, "__file__", None)
    return spec.name if spec else Path(file).stem if file else module
