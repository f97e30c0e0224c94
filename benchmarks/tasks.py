"""The function that everybody runs."""

from __future__ import annotations

import os

from .ledger import ENVIRONMENT, Ledger

LEDGER = Ledger(os.environ[ENVIRONMENT])
_runs = LEDGER.runs


def add(x: int, y: int) -> int:
    """Next to nothing; ``x`` is the job's number."""
    _runs[x] += 1
    return x + y
