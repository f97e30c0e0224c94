"""Signals an application can listen to (blinker, as Flask's own)."""

from __future__ import annotations

import logging
import typing as t

from blinker import NamedSignal, Namespace

logger = logging.getLogger(__name__)

_signals = Namespace()

job_enqueued = _signals.signal("job-enqueued")
job_started = _signals.signal("job-started")
job_succeeded = _signals.signal("job-succeeded")
job_retried = _signals.signal("job-retried")
job_failed = _signals.signal("job-failed")
job_revoked = _signals.signal("job-revoked")
worker_ready = _signals.signal("worker-ready")
worker_process_init = _signals.signal("worker-process-init")
worker_shutdown = _signals.signal("worker-shutdown")
beat_tick = _signals.signal("beat-tick")


def send(signal: NamedSignal, sender: t.Any, **facts: t.Any) -> None:
    """Call a signal's receivers. What one raises is logged and changes nothing."""
    if not signal.receivers:
        return
    for receiver in signal.receivers_for(sender):
        try:
            receiver(sender, **facts)
        except Exception:
            logger.exception("A receiver of %s raised", signal.name)
