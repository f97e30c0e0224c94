"""How many jobs a slot claims at once, by what its jobs have taken."""

from __future__ import annotations

import pytest

from flask_taskqueue.worker.pace import AHEAD, MOST, Pace


def after(*seconds: float, most: int = MOST) -> Pace:
    """The pace of a slot whose jobs took so long."""
    pace = Pace(most)
    for each in seconds:
        pace.note(each)
    return pace


@pytest.mark.parametrize(
    ("seconds", "jobs"),
    [
        pytest.param((), 1, id="none yet"),
        pytest.param((0.0,), 16, id="no time at all"),
        pytest.param((0.000_1,), 16, id="a tenth of a millisecond"),
        pytest.param((0.000_129,), 16, id="twice 16 but one take 4 ms"),
        pytest.param((0.000_25,), 8, id="twice 16 would take longer"),
        pytest.param((0.000_5,), 4, id="half a millisecond"),
        pytest.param((0.000_6,), 7, id="none is asked for meanwhile"),
        pytest.param((0.001,), 5, id="a millisecond"),
        pytest.param((0.002,), 3, id="2 ms"),
        pytest.param((0.004,), 2, id="4 ms"),
        pytest.param((0.004_1,), 1, id="longer"),
        pytest.param((300.0,), 1, id="5 minutes"),
        pytest.param((0.000_1, 0.01), 1, id="a slow one counts for half"),
        pytest.param((0.01, *[0.000_1] * 4), 1, id="four fast ones for less than that"),
        pytest.param((0.01, *[0.000_1] * 8), 2, id="eight do not"),
        pytest.param((0.01, *[0.000_1] * 60), 16, id="sixty make up for it"),
    ],
)
def test_it_expects_to_make_a_job_wait_4_ms_at_most(
    seconds: tuple[float, ...], jobs: int
):
    assert after(*seconds).jobs == jobs


@pytest.mark.parametrize("most", [1, 2, 7])
def test_it_never_claims_more_than_it_may(most: int):
    assert after(most=most).jobs == 1
    assert after(0.0, most=most).jobs == most
    assert after(0.000_001, most=most).jobs == most
    assert after(10.0, most=most).jobs == 1


def test_what_waits_never_takes_longer_whatever_a_job_takes():
    for microseconds in range(1, 10_000, 7):
        seconds = microseconds / 1e6
        pace = after(seconds)
        jobs, each = pace.jobs, 2 if pace.is_brisk else 1
        assert 1 <= jobs <= MOST
        # Those that are asked for while these run wait, too.
        assert (each * jobs - 1) * seconds <= AHEAD * 1.000_001
        # And no fewer than it may.
        assert jobs == MOST or (each * (jobs + 1) - 1) * seconds > AHEAD * 0.999_999


@pytest.mark.parametrize(
    ("seconds", "is_brisk"),
    [
        pytest.param((), False, id="none yet"),
        pytest.param((0.000_1,), True, id="a tenth of a millisecond"),
        pytest.param((0.000_5,), True, id="half a millisecond"),
        pytest.param((0.000_51,), False, id="longer"),
        pytest.param((0.000_1, 0.01), False, id="a slow one"),
    ],
)
def test_jobs_are_brisk_that_take_little_beside_the_servers_answer(
    seconds: tuple[float, ...], is_brisk: bool
):
    assert after(*seconds).is_brisk is is_brisk
