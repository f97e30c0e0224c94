"""Entries that could not be fired: each is left alone for a while, the rest go on."""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass

logger: logging.Logger = logging.getLogger(__name__)

REST = 10.0
"""Seconds until an entry that cannot be fired is tried again."""

REFUSED_LOW, REFUSED_HIGH = 0.05, 10.0
"""Seconds until one is looked at again whose tick was refused: at first, at most."""


@dataclass(slots=True)
class _Trouble:
    """Why an entry rests, and until when by the monotonic clock.

    :param problem: As it was logged; ``""`` for a refusal, which is not.
    """

    problem: str
    until: float
    pause: float


class Troubles:
    """The entries that rest."""

    def __init__(self) -> None:
        self._of: dict[str, _Trouble] = {}

    def __len__(self) -> int:
        return len(self._of)

    @property
    def next_end(self) -> float:
        """When the next one has rested, by the monotonic clock."""
        now = time.monotonic()
        return min(
            (one.until for one in self._of.values() if one.until > now),
            default=float("inf"),
        )

    def rests(self, entry_id: str) -> bool:
        """Whether it is to be left alone now."""
        trouble = self._of.get(entry_id)
        return trouble is not None and time.monotonic() < trouble.until

    def note(
        self,
        entry_id: str,
        name: str,
        problem: str,
        error: BaseException | None = None,
    ) -> None:
        """Leave an entry alone for a while; log what is new about it.

        Its due time stays: it is fired late, or by its misfire policy.

        :param error: Logged with its traceback.
        """
        known = self._of.get(entry_id)
        if known is None or known.problem != problem:
            logger.error(
                "Scheduler: %s cannot be fired: %s; trying again every %g s",
                name, problem, REST, exc_info=error,
            )  # fmt: skip
        self._of[entry_id] = _Trouble(problem, time.monotonic() + REST, REST)

    def note_refusal(self, entry_id: str) -> None:
        """Look at an entry again in a moment, and later each time.

        Nothing is wrong: somebody changed it, or was faster. Where that does not end,
        the beat must not spin."""
        known = self._of.get(entry_id)
        if known is not None and time.monotonic() < known.until:
            return  # The ticks that follow a refused one are refused, too.
        pause = REFUSED_LOW
        if known is not None and not known.problem:
            pause = min(known.pause * 2, REFUSED_HIGH)
        self._of[entry_id] = _Trouble("", time.monotonic() + pause, pause)

    def forget(self, entry_id: str) -> None:
        """Let an entry rest no longer: it fired."""
        self._of.pop(entry_id, None)

    def keep_within(self, most: int) -> None:
        """Hold no more than there are entries."""
        if len(self._of) > most:
            self._of.clear()
