"""Signals an application can listen to (blinker, as Flask's own)."""

from __future__ import annotations

import logging
import typing as t

from blinker import NamedSignal, Namespace

from . import coroutines

logger: logging.Logger = logging.getLogger(__name__)

_signals = Namespace()

job_enqueued: NamedSignal = _signals.signal("job-enqueued")
job_started: NamedSignal = _signals.signal("job-started")
job_succeeded: NamedSignal = _signals.signal("job-succeeded")
job_retried: NamedSignal = _signals.signal("job-retried")
job_failed: NamedSignal = _signals.signal("job-failed")
job_revoked: NamedSignal = _signals.signal("job-revoked")
worker_ready: NamedSignal = _signals.signal("worker-ready")
worker_process_init: NamedSignal = _signals.signal("worker-process-init")
worker_shutdown: NamedSignal = _signals.signal("worker-shutdown")
beat_tick: NamedSignal = _signals.signal("beat-tick")


def send(signal: NamedSignal, sender: t.Any, **facts: t.Any) -> None:
    """Call a signal's receivers, ``async def`` ones to their end. What one raises is
    logged and changes nothing: blinker's own ``send`` would leave out the rest.

    :param facts: ``job``, ``worker``, or ``beat`` and ``jobs`` (ids of those made), as
        the signal has it.
    """
    if signal.is_muted or not signal.receivers:
        return
    for receiver in signal.receivers_for(sender):
        try:
            coroutines.finished(receiver(sender, **facts))
        except Exception:
            about, extra = _about(facts)
            logger.exception(
                "A receiver of %s raised%s", signal.name, about, extra=extra
            )


def _about(facts: t.Mapping[str, t.Any]) -> tuple[str, dict[str, str]]:
    """Which job it is about, for the text of a log line and for its attributes."""
    job = facts.get("job")
    if job is None:
        return "", {}
    return f", job {job.id}", {"job_id": job.id, "task": job.task, "queue": job.queue}
