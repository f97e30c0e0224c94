"""Who may do what with a job: what the app's authoriser says."""

from __future__ import annotations

import logging
import re
import typing as t

from werkzeug.exceptions import HTTPException

from ..appstate import AppState
from ..inspector import Snapshot
from ..jobinfo import JobInfo
from ..option_values import TASK_ID

logger: logging.Logger = logging.getLogger(__name__)

READ = "read"
TRACEBACK = "traceback"
REVOKE = "revoke"

KNOWN = frozenset({READ, TRACEBACK, REVOKE})
"""What an authoriser can allow."""

UUID = r"[0-9a-fA-F]{8}-(?:[0-9a-fA-F]{4}-){3}[0-9a-fA-F]{12}"
"""Ids of jobs that are their own permission: 122 random bits."""

_IS_UUID = re.compile(UUID).fullmatch


def permitted(state: AppState, job: Snapshot) -> frozenset[str]:
    """What the current request may do with a job, out of :data:`KNOWN`.

    Without an authoriser whoever knows the id may read.

    :raises TypeError: The authoriser answers neither a bool nor a set.
    :raises ValueError: It names something that nobody can be allowed.
    """
    authorise = state.provided.authorize_status
    if authorise is None:
        return frozenset({READ})
    answer: t.Any = authorise(JobInfo.of(job.stored))
    if not answer:
        return frozenset()
    if answer is True:
        return frozenset({READ})
    if not isinstance(answer, (set, frozenset)):
        raise TypeError(
            "expected authorize_status to return a bool or a set out of"
            f" {sorted(KNOWN)}, got {answer!r}"
        )
    if unknown := answer - KNOWN:
        raise ValueError(
            f"expected authorize_status to return a set out of {sorted(KNOWN)}, got"
            f" {sorted(map(str, unknown))} in it"
        )
    return frozenset(answer)


def permitted_or_nothing(state: AppState, job: Snapshot) -> frozenset[str]:
    """As :func:`permitted`, in an answer of the app's own: nothing where the
    authoriser aborts or fails."""
    try:
        return permitted(state, job)
    except HTTPException:
        return frozenset()
    except Exception:  # The app's own code.
        stored = job.stored
        info = JobInfo.of(stored)
        logger.exception(
            "authorize_status failed for job %s: taken as refused",
            stored.id,
            extra={"job_id": stored.id, "task": info.task, "queue": stored.queue},
        )
        return frozenset()


def answers_for(state: AppState, job_id: str) -> bool:
    """Whether the endpoint answers for jobs with such an id."""
    if state.config.status_prefix is None or state.app.url_map.host_matching:
        # Rules without a host, as the endpoint's, match none in such an app.
        return False
    if state.provided.authorize_status is None:
        return _IS_UUID(job_id) is not None
    return TASK_ID.fullmatch(job_id) is not None
