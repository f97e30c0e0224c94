"""Says the same thing only now and then: what goes on is met again and again."""

from __future__ import annotations

import time
from collections.abc import Hashable


class Seldom:
    """What was said last when.

    :param pause: Seconds until the same may be said again.
    """

    def __init__(self, pause: float) -> None:
        self._pause = pause
        self._said: dict[Hashable, float] = {}

    def may_say(self, what: Hashable) -> bool:
        """Whether it is time to say it. If so, it counts as said."""
        now = time.monotonic()
        last = self._said.get(what)
        if last is not None and now - last < self._pause:
            return False
        self._said[what] = now
        return True
