"""Looks whether the files of an app's modules changed."""

from __future__ import annotations

import os
import site
import sys
import sysconfig
import time
from collections.abc import Iterator, Mapping

LOOK = 0.5
"""Seconds between two looks."""

Times = dict[str, int]
"""When each file was changed last, in nanoseconds."""


class Watch:
    """The Python files of the folders from which modules were loaded.

    Not those of Python itself and of installed packages.

    :param known: What an earlier watch saw: a change since then counts.
    :ivar deadline: When to look next, by the monotonic clock.
    """

    def __init__(self, known: Mapping[str, int]) -> None:
        self.known: Times = {**look(), **known}
        self.deadline: float = time.monotonic()
        self._seen = self.known

    def changed(self) -> str:
        """A file that changed, was added or is gone; ``""`` where none has been, or
        while some still are. Each change is told once."""
        now = time.monotonic()
        if now < self.deadline:
            return ""
        self.deadline = now + LOOK
        before, self._seen = self._seen, look()
        if self._seen == self.known or self._seen != before:
            return ""
        names = self._seen.keys() | self.known.keys()
        differ = [n for n in names if self._seen.get(n) != self.known.get(n)]
        self.known = self._seen
        return min(differ)


def look() -> Times:
    """The files there are, and their times."""
    installed = tuple(_installed())
    folders = {
        os.path.dirname(os.path.abspath(path))
        for module in list(sys.modules.values())
        if (path := getattr(module, "__file__", None)) and path.endswith(".py")
    }
    return {
        entry.path: entry.stat().st_mtime_ns
        for folder in folders
        if not f"{folder}{os.sep}".startswith(installed)
        for entry in _entries(folder)
    }


def _entries(folder: str) -> Iterator[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                if entry.name.endswith(".py") and entry.is_file():
                    yield entry
    except FileNotFoundError:
        return


def _installed() -> Iterator[str]:
    """Folders of Python and of installed packages, each with a separator at its end."""
    paths = sysconfig.get_paths()
    names = ("stdlib", "platstdlib", "purelib", "platlib", "scripts")
    found = [paths[name] for name in names]
    for folder in (*found, *site.getsitepackages(), site.getusersitepackages()):
        for path in {folder, os.path.realpath(folder)}:
            yield path.rstrip(os.sep) + os.sep
