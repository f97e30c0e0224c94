"""The right to begin a job that was claimed ahead: a token that the slot and its
supervisor both reach for, and that the kernel gives to one of them."""

from __future__ import annotations

import os
import weakref


class Tokens:
    """A number of tokens, made before the fork and shared by both sides.

    Not a lock: a process that is killed leaves nothing locked.
    """

    def __init__(self) -> None:
        if hasattr(os, "eventfd"):
            self._read = os.eventfd(
                0, os.EFD_SEMAPHORE | os.EFD_NONBLOCK | os.EFD_CLOEXEC
            )
            self._write = self._read
        else:
            self._read, self._write = os.pipe()
            for descriptor in (self._read, self._write):
                os.set_blocking(descriptor, False)
        self._is_eventfd = self._read == self._write
        for descriptor in {self._read, self._write}:
            weakref.finalize(self, os.close, descriptor)

    def add(self, count: int) -> None:
        """Lay down some."""
        if self._is_eventfd:
            os.eventfd_write(self._write, count)
        else:
            os.write(self._write, b"T" * count)

    def take(self) -> bool:
        """Take one; whether there was one left."""
        try:
            os.read(self._read, 8 if self._is_eventfd else 1)
        except BlockingIOError:
            return False
        return True

    def take_all(self) -> int:
        """Take what is left; how many that was."""
        count = 0
        while self.take():
            count += 1
        return count
