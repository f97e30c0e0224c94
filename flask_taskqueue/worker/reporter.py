"""Stores what a running task says of itself."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

from redis import Redis

from ..appstate import AppState
from ..broker import scripts
from ..broker.wire import Argument, Lease
from ..errors import BrokerUnavailable

logger: logging.Logger = logging.getLogger(__name__)

QUIET = 1.0
"""Seconds a task's words are dropped after one was lost."""


class JobReporter:
    """Stores what a running task says of itself, as long as it holds its lease.

    Words that are lost are told of once, until one is stored again.

    :param on_trouble: Called when Redis could not be reached. The task goes on: its
        word is lost, its work is not.
    """

    def __init__(
        self,
        client: Redis,
        state: AppState,
        lease: Lease,
        on_trouble: Callable[[BaseException], None],
    ) -> None:
        self._client = client
        self._state = state
        self._lease = lease
        self._on_trouble = on_trouble
        self._lost = ""
        self._quiet_until = 0.0

    def report(self, state: str, info: bytes) -> None:
        """Keep a state and its JSON value.

        One more of the state that was lost just now is dropped, so that a task which
        says much is not held up by each word; another state may be its last.
        """
        began = time.monotonic()
        if state == self._lost and began < self._quiet_until:
            return
        fields = said(self._state, self._lease.id, state, info)
        try:
            with self._state.broker.errors():
                stored = scripts.progress(self._client, self._lease, fields)
        except BrokerUnavailable as error:
            self._on_trouble(error)
            text = "Job %s: what it says of itself is lost, Redis cannot be reached: %s"
            self._lose(state, began, text, self._lease.id, error)
            return
        if stored:
            self._lost = ""
        else:
            # The supervisor learns it with its next renewal and stops this run.
            text = "Job %s lost its lease and still runs"
            self._lose(state, began, text, self._lease.id)

    def _lose(self, state: str, began: float, text: str, *values: object) -> None:
        if not self._lost:
            logger.warning(text, *values)
        self._lost, now = state, time.monotonic()
        # A server that hangs costs a time-out: no more than half of the task's time.
        self._quiet_until = now + max(QUIET, now - began)


def said(state: AppState, job_id: str, name: str, info: bytes) -> dict[str, Argument]:
    """Fields of what a task said of itself, signed where that is on."""
    fields: dict[str, Argument] = {"tq_state": name, "tq_info": info}
    if (signer := state.signer) is not None:
        parts = (job_id.encode(), b"progress", name.encode(), info)
        fields["tq_sig_info"] = signer.sign(*parts)
    return fields
