"""For the tests of an app that has tasks.

:func:`eager` runs calls where they are made, :func:`captured` keeps them for a look,
:func:`drain` and :func:`run_worker` run what was enqueued. The same as fixtures, built
on the fixture ``app`` of your own: ``pytest_plugins = ["flask_taskqueue.testing"]``.
"""

from __future__ import annotations

from .calls import CapturedJob as CapturedJob
from .calls import captured as captured
from .calls import eager as eager
from .running import drain as drain
from .running import run_worker as run_worker

__all__ = ["CapturedJob", "captured", "drain", "eager", "run_worker"]

# Read by pytest where this module is one of its plugins; it is not needed otherwise.
pytest_plugins: list[str] = ["flask_taskqueue.testing.fixtures"]
