"""CPUs for ``-c auto``, from trees of files as systems have them."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from flask_taskqueue.worker import cpus

V2 = "29 23 0:26 / /sys/fs/cgroup rw,nosuid - cgroup2 cgroup2 rw,nsdelegate"
V1 = (
    "31 23 0:28 / /sys/fs/cgroup rw - tmpfs tmpfs ro,mode=755\n"
    "32 31 0:29 {top} /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct\n"
    "33 31 0:30 {top} /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory"
)
ON_V1 = "11:memory:{0}\n4:cpu,cpuacct:{0}\n1:name=systemd:{0}\n0::{0}"
CPU = "sys/fs/cgroup/cpu,cpuacct"

Files = dict[str, str]


def tree(root: Path, cgroup: str, mountinfo: str, files: Files) -> Path:
    """Write ``proc`` and the cgroups' files below a folder."""
    named = {"proc/self/cgroup": cgroup, "proc/self/mountinfo": mountinfo, **files}
    for name, text in named.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{text}\n")
    return root


def v1(path: str, quota: int, period: int = 100_000) -> Files:
    return {
        f"{CPU}/{path}/cpu.cfs_quota_us": str(quota),
        f"{CPU}/{path}/cpu.cfs_period_us": str(period),
    }


@pytest.mark.parametrize(
    ("cgroup", "mountinfo", "files", "expected"),
    [
        pytest.param(
            "0::/", V2, {"sys/fs/cgroup/cpu.max": "150000 100000"}, 1.5,
            id="v2-container",
        ),
        pytest.param(
            "0::/", V2, {"sys/fs/cgroup/cpu.max": "max 100000"}, None, id="v2-no-limit"
        ),
        pytest.param("0::/", V2, {}, None, id="v2-top-of-the-machine"),
        pytest.param(
            "0::/system.slice/worker.service", V2,
            {
                "sys/fs/cgroup/system.slice/worker.service/cpu.max": "400000 100000",
                "sys/fs/cgroup/system.slice/cpu.max": "50000 100000",
            }, 0.5, id="v2-group-above",
        ),
        pytest.param(
            "0::/system.slice/worker.service", V2,
            {
                "sys/fs/cgroup/system.slice/worker.service/cpu.max": "25000 50000",
                "sys/fs/cgroup/system.slice/cpu.max": "max 100000",
                "sys/fs/cgroup/other.slice/cpu.max": "1000 100000",
            }, 0.5, id="v2-own-group",
        ),
        pytest.param(
            "0::/../../outside", V2, {"sys/fs/cgroup/cpu.max": "300000 100000"}, 3.0,
            id="v2-outside-the-namespace",
        ),
        pytest.param(
            ON_V1.format("/"), V1.format(top="/"), v1("", 250_000), 2.5, id="v1"
        ),
        pytest.param(
            ON_V1.format("/"), V1.format(top="/"), v1("", -1), None, id="v1-no-limit"
        ),
        pytest.param(
            ON_V1.format("/docker/4711"), V1.format(top="/docker/4711"),
            v1("", 50_000), 0.5, id="v1-container-under-the-hosts-name",
        ),
        pytest.param(
            ON_V1.format("/docker/4711/job"), V1.format(top="/docker/4711"),
            v1("", 200_000) | v1("job", 100_000, 50_000), 2.0,
            id="v1-group-in-a-container",
        ),
        pytest.param(
            ON_V1.format("/elsewhere"), V1.format(top="/docker/4711"),
            v1("", 100_000), 1.0, id="v1-mount-of-another-group",
        ),
        pytest.param(
            ON_V1.format("/a/b"), V1.format(top="/"),
            v1("a", 100_000) | v1("a/b", 300_000), 1.0, id="v1-group-above",
        ),
        pytest.param(
            ON_V1.format("/a"), f"{V1.format(top='/')}\n"
            + V2.replace("/sys/fs/cgroup ", "/sys/fs/cgroup/unified "),
            v1("a", 300_000) | {"sys/fs/cgroup/unified/a/cpu.max": "200000 100000"},
            2.0, id="both",
        ),
        pytest.param(
            "0::/", V2, {"sys/fs/cgroup/cpu.max": "lots"}, None, id="not-a-number"
        ),
        pytest.param(
            "0::/", V2, {"sys/fs/cgroup/cpu.max": "100000 0"}, None, id="no-period"
        ),
        pytest.param("nonsense", "more\nof - it", {}, None, id="nonsense"),
    ],
)  # fmt: skip
def test_the_smallest_quota_on_the_path_counts(
    tmp_path: Path, cgroup: str, mountinfo: str, files: Files, expected: float | None
):
    assert cpus.quota(tree(tmp_path, cgroup, mountinfo, files)) == expected


def test_without_proc_there_is_no_quota(tmp_path: Path):
    assert cpus.quota(tmp_path) is None


@pytest.mark.parametrize(
    ("most", "expected"),
    [("1000 100000", 1), ("99999 100000", 1), ("100001 100000", 2)],
)
def test_a_part_of_a_cpu_counts_as_one(tmp_path: Path, most: str, expected: int):
    root = tree(tmp_path, "0::/", V2, {"sys/fs/cgroup/cpu.max": most})
    assert cpus.usable(root) == min(expected, len(os.sched_getaffinity(0)))


def test_a_quota_over_the_affinity_does_not_count(tmp_path: Path):
    root = tree(tmp_path, "0::/", V2, {"sys/fs/cgroup/cpu.max": "9900000 100000"})
    allowed = os.sched_getaffinity(0)
    try:
        os.sched_setaffinity(0, {min(allowed)})
        assert cpus.usable(root) == 1
    finally:
        os.sched_setaffinity(0, allowed)
    assert cpus.usable(tmp_path / "none") == len(allowed)
