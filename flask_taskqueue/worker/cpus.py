"""How many CPUs this process may use: its affinity, and the quota of its cgroup."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from pathlib import Path


def usable(root: Path = Path("/")) -> int:
    """CPUs for jobs, at least 1; a part of one counts as one.

    :param root: Where ``proc`` and the cgroups' file systems are.
    """
    if hasattr(os, "sched_getaffinity"):
        found = len(os.sched_getaffinity(0))
    else:
        found = os.cpu_count() or 1
    shares = quota(root)
    return found if shares is None else max(1, min(found, math.ceil(shares)))


def quota(root: Path = Path("/")) -> float | None:
    """CPUs that this process's cgroup may use, or ``None`` where nothing limits it.

    The smallest quota of the group and those above it, as far as they are mounted:
    ``cpu.max`` of cgroup v2, ``cpu.cfs_quota_us`` of v1.

    :param root: Where ``proc`` and the cgroups' file systems are.
    """
    found = [
        shares
        for folder in _folders(root)
        for shares in (_quota_v2(folder), _quota_v1(folder))
        if shares is not None
    ]
    return min(found, default=None)


def _folders(root: Path) -> Iterator[Path]:
    """The process's group in each mounted hierarchy, and the groups above it."""
    groups = dict(_groups(_text(root / "proc/self/cgroup")))
    for controllers, top, mounted in _mounts(_text(root / "proc/self/mountinfo")):
        group = groups.get(controllers)
        if group is None:
            continue
        mount = root / mounted.lstrip("/")
        folder = mount / _below(group, top)
        yield folder
        while folder != mount:
            folder = folder.parent
            yield folder


def _groups(text: str) -> Iterator[tuple[str, str]]:
    """Hierarchies, ``""`` the one of v2 and ``cpu`` that of v1, and the group in it.

    A line is ``ID:CONTROLLERS:GROUP`` (cgroups(7)).
    """
    for line in text.splitlines():
        _, _, rest = line.partition(":")
        controllers, _, group = rest.partition(":")
        if not controllers:
            yield "", group
        elif "cpu" in controllers.split(","):
            yield "cpu", group


def _mounts(text: str) -> Iterator[tuple[str, str, str]]:
    """Hierarchies, the group that is the top of the mount, and where it is mounted.

    A line is ``36 35 98:0 /top /mounted opts … - type source superopts`` (proc(5)).
    """
    for line in text.splitlines():
        before, _, after = line.partition(" - ")
        places, kind = before.split(), after.split()
        if len(places) < 5 or len(kind) < 3:
            continue
        if kind[0] == "cgroup2":
            yield "", places[3], places[4]
        elif kind[0] == "cgroup" and "cpu" in kind[2].split(","):
            yield "cpu", places[3], places[4]


def _below(group: str, top: str) -> str:
    """The group's path from the top of a mount: a container sees its own group there,
    under the host's name for it or under none."""
    if top != "/" and (group == top or group.startswith(f"{top}/")):
        group = group[len(top) :]
    elif top != "/":
        group = "/"
    # In a cgroup namespace a group outside it is shown as "/..".
    return "" if ".." in group.split("/") else group.strip("/")


def _quota_v2(folder: Path) -> float | None:
    """From ``"150000 100000"``; ``"max 100000"`` is no limit."""
    most, _, period = _text(folder / "cpu.max").strip().partition(" ")
    return _ratio(most, period)


def _quota_v1(folder: Path) -> float | None:
    """A quota of -1 is no limit."""
    period = _text(folder / "cpu.cfs_period_us").strip()
    return _ratio(_text(folder / "cpu.cfs_quota_us").strip(), period)


def _ratio(most: str, period: str) -> float | None:
    if not (most.isdecimal() and period.isdecimal() and int(most) and int(period)):
        return None
    return int(most) / int(period)


def _text(path: Path) -> str:
    try:
        return path.read_text("utf-8", "replace")
    except OSError:
        return ""
