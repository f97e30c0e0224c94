"""Fixtures of the chaos tests."""

from __future__ import annotations

import pytest
import redis

from .books import Books


@pytest.fixture
def books(client: redis.Redis) -> Books:
    """The entries of ``tests/apps/jobs.py`` on the shared server."""
    return Books(client)
