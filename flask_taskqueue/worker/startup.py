"""How a worker was started, checked by who starts it."""

from __future__ import annotations

from dataclasses import dataclass

from ..terms import NO_LIMITS, Limits
from .pace import MOST
from .wear import Lifetime


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerOptions:
    """How a worker was started.

    :param name: Unique among all workers of all time.
    :param shutdown_timeout: Seconds running jobs may take after a request to stop.
    :param lifetime: How long a child is used.
    :param limits: For jobs that name none.
    :param claim_ahead: Short jobs that one call may claim.
    """

    name: str
    queues: tuple[str, ...]
    concurrency: int
    burst: bool = False
    shutdown_timeout: float = 25.0
    lifetime: Lifetime = Lifetime()
    limits: Limits = NO_LIMITS
    claim_ahead: int = MOST
