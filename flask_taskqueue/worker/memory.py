"""Files without a name, which can be handed to another program by their descriptor."""

from __future__ import annotations

import os
import tempfile


def unnamed_file(size: int = 0) -> int:
    """Make a file; its descriptor.

    In memory where the system can do that: there may be no folder to write in.

    :param size: Bytes, all zero.
    """
    if hasattr(os, "memfd_create"):
        descriptor = os.memfd_create("flask-taskqueue")
    else:
        with tempfile.TemporaryFile() as file:
            descriptor = os.dup(file.fileno())
    os.ftruncate(descriptor, size)
    return descriptor
