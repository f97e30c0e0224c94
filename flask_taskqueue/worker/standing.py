"""What a worker says of itself: in its record, and to who asks its health port."""

from __future__ import annotations

import typing as t

if t.TYPE_CHECKING:
    from ..broker.wire import Argument
    from .supervisor import Supervisor


def held_by(worker: Supervisor) -> str:
    """What keeps it from taking jobs, ``""`` where nothing does."""
    if worker.stopping:
        return "stopping"
    if worker.reload.under_way:
        return "reloading"
    return "quiet" if worker.quiet else ""


def unready(worker: Supervisor) -> str:
    """Why no probe should find it ready, ``""`` where it is."""
    if held := held_by(worker):
        return held
    if not worker.lines.up:
        return "no connection to Redis"
    return "" if worker.staff.all_ready else "children start"


def fields(worker: Supervisor) -> dict[str, Argument]:
    """Fields of its record that :mod:`..fleet` reads."""
    pool = worker.staff.pool
    return {
        "tq_standing": held_by(worker),
        "tq_pool": "" if pool is None else pool.name,
        "tq_concurrency": worker.options.concurrency,
    }
