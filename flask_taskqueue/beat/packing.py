"""Options of a call, signatures included, as JSON values and back."""

from __future__ import annotations

import typing as t
from collections.abc import Callable, Mapping

from ..signature import Signature, Target
from .entries import LINKS, seconds_of

Targets = Callable[[str], Target]
"""Finds what a signature calls by the name of its task."""


def packed_options(options: Mapping[str, t.Any]) -> dict[str, t.Any]:
    """Options of a call as JSON values."""
    packed = {}
    for name, value in ordered(options).items():
        if name in LINKS:
            several = value if isinstance(value, (list, tuple)) else (value,)
            packed[name] = [_packed(each) for each in several if each is not None]
        else:
            packed[name] = seconds_of(value)
    return packed


def _packed(signature: Signature) -> dict[str, t.Any]:
    return {
        "task": signature.task,
        "args": list(signature.args),
        "kwargs": ordered(signature.kwargs),
        "options": packed_options(signature.options),
        "immutable": signature.immutable,
    }


def options_of(packed: Mapping[str, t.Any], targets: Targets) -> dict[str, t.Any]:
    """The options of which :func:`packed_options` made JSON values. They may come from
    anyone: whatever is wrong is raised by what it is given to.

    :param targets: Finds what a signature calls.
    """
    options = dict(packed)
    for name in LINKS:
        if name in options:
            options[name] = tuple(_signature(each, targets) for each in options[name])
    return options


def _signature(packed: Mapping[str, t.Any], targets: Targets) -> Signature:
    return Signature(
        targets(packed["task"]),
        packed["args"],
        packed["kwargs"],
        options_of(packed["options"], targets),
        immutable=bool(packed["immutable"]),
    )


def ordered(values: Mapping[str, t.Any]) -> dict[str, t.Any]:
    """The same values by name, in the order of their names."""
    return {name: values[name] for name in sorted(values)}
