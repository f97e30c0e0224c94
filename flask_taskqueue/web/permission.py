"""Who may do what with a job: what the app's authoriser says."""

from __future__ import annotations

import re
import typing as t

from ..appstate import AppState
from ..inspector import Snapshot
from ..jobinfo import JobInfo
from ..option_values import TASK_ID

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


def answers_for(state: AppState, job_id: str) -> bool:
    """Whether the endpoint answers for jobs with such an id."""
    if state.config.status_prefix is None:
        return False
    if state.provided.authorize_status is None:
        return _IS_UUID(job_id) is not None
    return TASK_ID.fullmatch(job_id) is not None
