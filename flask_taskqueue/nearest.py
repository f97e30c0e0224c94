"""Finds the name that somebody meant."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


def hint(name: str, known: Iterable[str], cutoff: float = 0.6) -> str:
    """The end of a message about an unknown name: `` (did you mean 'x'?)``.

    A name that only lacks its beginning, as ``add`` of ``sums.add``, is nearest. The
    case of letters does not count.

    :param cutoff: From 0, which is any name, to 1, which is the same.
    :return: ``""`` where none is near.
    """
    names = {other.lower(): other for other in sorted(known)}
    lower = name.lower()
    near = [other for other in names if other.endswith(f".{lower}")]
    near = near or difflib.get_close_matches(lower, names, n=1, cutoff=cutoff)
    return f" (did you mean {names[near[0]]!r}?)" if near else ""
