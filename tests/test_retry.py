"""When, and how often, a failed job is tried again."""

from __future__ import annotations

import math

import pytest

from flask_taskqueue.errors import Ignore, Reject, Retry
from flask_taskqueue.retry import RetryPolicy, covers, rq_interval


def delays(policy, attempts):
    """The delay before each retry, ``None`` where the job fails for good."""
    return [policy.next_delay(n, draw=lambda low, high: high) for n in range(attempts)]


@pytest.mark.parametrize(
    ("policy", "expected"),
    [
        pytest.param(
            RetryPolicy(max_retries=3, delay=3), [3, 3, 3, None], id="constant"
        ),
        pytest.param(RetryPolicy(max_retries=0), [None], id="never"),
        pytest.param(RetryPolicy(max_retries=2, delay=0), [0, 0, None], id="at-once"),
        pytest.param(
            RetryPolicy(max_retries=None, backoff=1, backoff_max=5),
            [1, 2, 4, 5, 5],
            id="backoff-capped",
        ),
    ],
)
def test_next_delay(policy, expected):
    assert delays(policy, len(expected)) == expected


def test_jitter_draws_between_zero_and_the_backoff():
    bounds = []
    policy = RetryPolicy(backoff=2, max_retries=None)
    policy.next_delay(3, draw=lambda *pair: bounds.append(pair) or 0)
    assert bounds == [(0, 16)]


def test_without_jitter_nothing_is_drawn():
    policy = RetryPolicy(backoff=2, jitter=False)
    assert policy.next_delay(1, draw=lambda *pair: pytest.fail("drawn")) == 4


def test_retrying_for_ever_never_overflows():
    assert (
        RetryPolicy(backoff=1, max_retries=None, jitter=False).next_delay(5000) == 600
    )


@pytest.mark.parametrize("value", [-1, "1", True, math.nan, math.inf, 10**400], ids=str)
@pytest.mark.parametrize("field", ["delay", "backoff", "backoff_max"])
def test_seconds_are_refused_by_name_unless_finite_and_positive(field, value):
    with pytest.raises(ValueError, match=f"expected '{field}' to be seconds >= 0, got"):
        RetryPolicy(**{field: value})


@pytest.mark.parametrize("value", [-1, "1", True, 1.0], ids=repr)
def test_max_retries_is_refused_unless_a_count(value):
    with pytest.raises(ValueError, match="expected 'max_retries' to be an integer"):
        RetryPolicy(max_retries=value)


def test_jitter_is_refused_unless_a_bool():
    with pytest.raises(ValueError, match="expected 'jitter' to be True or False"):
        RetryPolicy(jitter=1)


@pytest.mark.parametrize(
    ("policy", "stored"),
    [
        pytest.param(RetryPolicy(), {}, id="defaults"),
        pytest.param(RetryPolicy(max_retries=None), {"max_retries": None}, id="ever"),
        pytest.param(
            RetryPolicy(delay=0.5, jitter=False),
            {"delay": 0.5, "jitter": False},
            id="some",
        ),
    ],
)
def test_a_stored_policy_keeps_what_differs(policy, stored):
    assert policy.to_dict() == stored
    assert RetryPolicy.from_dict(stored) == policy


@pytest.mark.parametrize(
    ("data", "message"),
    [
        pytest.param([], "to be a dict, got list", id="list"),
        pytest.param(None, "to be a dict, got NoneType", id="none"),
        pytest.param({"retries": 1}, "only max_retries, delay.* 'retries'", id="key"),
        pytest.param({1: 1}, "only max_retries.*got 1", id="number-key"),
        pytest.param({"delay": [1]}, "expected 'delay'", id="type"),
        pytest.param({"jitter": "no"}, "expected 'jitter'", id="text"),
    ],
)
def test_a_stored_policy_from_anyone_is_checked(data, message):
    with pytest.raises(ValueError, match=message):
        RetryPolicy.from_dict(data)


@pytest.mark.parametrize(
    ("exc", "wanted", "unwanted", "expected"),
    [
        pytest.param(KeyError(), (LookupError,), (), True, id="subclass"),
        pytest.param(KeyError(), (ValueError,), (), False, id="other"),
        pytest.param(KeyError(), (), (), False, id="nothing-wanted"),
        pytest.param(
            KeyError(), (Exception,), (LookupError,), False, id="unwanted-wins"
        ),
        pytest.param(Retry(), (Exception,), (), False, id="Retry"),
        pytest.param(Ignore(), (Exception,), (), False, id="Ignore"),
        pytest.param(Reject(), (Exception,), (), False, id="Reject"),
    ],
)
def test_covers(exc, wanted, unwanted, expected):
    assert covers(exc, wanted, unwanted) is expected


@pytest.mark.parametrize(
    ("intervals", "left", "expected"),
    [
        pytest.param([1, 2, 3], 3, 1, id="first"),
        pytest.param([1, 2, 3], 1, 3, id="last"),
        pytest.param([5, 9], 4, 5, id="too-few-repeat-the-first"),
        pytest.param([1, 2, 3], 2, 2, id="middle"),
        pytest.param(None, 1, 0, id="none"),
        pytest.param([], 1, 0, id="empty"),
    ],
)
def test_rq_interval(intervals, left, expected):
    assert rq_interval(intervals, left) == expected


@pytest.mark.parametrize("max_retries", [1, 2, 5])
def test_rq_interval_is_what_rq_waits(max_retries):
    from rq.job import Job

    job = Job.__new__(Job)
    job.retry_intervals = [4, 8, 15]
    for left in range(max_retries, 0, -1):
        job.retries_left = left
        assert rq_interval(job.retry_intervals, left) == job.get_retry_interval()


@pytest.mark.parametrize(
    ("intervals", "left"),
    [
        pytest.param([1], 0, id="none-left"),
        pytest.param([1], True, id="bool"),
        pytest.param(["1"], 1, id="text"),
        pytest.param([-1], 1, id="negative"),
        pytest.param({"0": 1}, 1, id="dict"),
    ],
)
def test_rq_fields_that_make_no_sense_are_refused(intervals, left):
    with pytest.raises(ValueError, match="expected 'retr"):
        rq_interval(intervals, left)
