"""How many examples Hypothesis tries, and which."""

from __future__ import annotations

import os
import typing as t

from hypothesis import HealthCheck, Phase, settings

MANY = os.environ.get("CHAOS_EXAMPLES")
"""By hand: so many, and other ones each time; see ``conftest.py``."""

TIMEOUT = 3600 if MANY else 300
"""Seconds for a test: a failing example is made small, which takes its time."""


def examples(most: int, **more: t.Any) -> settings:
    """Always the same ones, in any order of tests.

    :param most: How many, unless said by hand.
    :param more: Settings of Hypothesis.
    """
    return settings(
        max_examples=int(MANY or most),
        derandomize=MANY is None,
        database=None,
        deadline=None,
        report_multiple_bugs=False,
        suppress_health_check=list(HealthCheck),
        phases=[Phase.generate, Phase.shrink],
        **more,
    )
