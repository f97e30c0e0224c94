import itertools
import re
import time
from pathlib import Path

import pytest

from flask_taskqueue.patterns import check_name_pattern, check_pattern, matches


@pytest.mark.parametrize(
    ("pattern", "key", "expected"),
    [
        pytest.param("a.b", "a.b", True, id="exact"),
        pytest.param("a.b", "a.b.c", False, id="exact-is-whole"),
        pytest.param("a.b", "A.b", False, id="case-counts"),
        pytest.param("*.feed", "x.feed", True, id="star-first"),
        pytest.param("*.feed", "feed", False, id="star-needs-a-word"),
        pytest.param("*.feed", "a.x.feed", False, id="star-is-one-word"),
        pytest.param("a.*.c", "a.b.c", True, id="star-middle"),
        pytest.param("task.#", "task", True, id="hash-zero"),
        pytest.param("task.#", "task.a", True, id="hash-one"),
        pytest.param("task.#", "task.a.b", True, id="hash-two"),
        pytest.param("task.#", "tasks.a", False, id="hash-whole-word"),
        pytest.param("#.feed", "feed", True, id="hash-first-zero"),
        pytest.param("#.feed", "a.b.feed", True, id="hash-first"),
        pytest.param("#.a.#.b", "a.x.a.y.b", True, id="hashes-back-up"),
        pytest.param("#.a.#.b", "a.x.a.y.c", False, id="hashes-fail"),
        pytest.param("#.*", "a", True, id="hash-then-star"),
        pytest.param("#.*", "", False, id="star-on-nothing"),
        pytest.param("#", "", True, id="hash-on-nothing"),
        pytest.param("#", "a.b", True, id="hash-alone"),
        pytest.param("*", "", False, id="star-alone-on-nothing"),
        pytest.param("a.?", "a.b", True, id="glob-question"),
        pytest.param("a.[bc]", "a.c", True, id="glob-set"),
        pytest.param("a.[bc]", "a.d", False, id="glob-set-fails"),
        pytest.param("a.[bc]*", "a.b.x.y", True, id="glob-star-crosses-dots"),
        pytest.param("a.[B]", "a.b", False, id="glob-case-counts"),
    ],
)
def test_matches(pattern, key, expected):
    assert matches(pattern, key) is expected


@pytest.mark.parametrize(
    ("pattern", "key"),
    [
        pytest.param(".".join(["#"] * 200), ".".join(["a"] * 2000), id="hashes"),
        pytest.param(
            ".".join(["#", "a"] * 50) + ".b", ".".join(["a"] * 2000), id="hash-words"
        ),
        pytest.param(
            ".".join(["#", "*"] * 50) + ".b", ".".join(["a"] * 2000), id="hash-stars"
        ),
        pytest.param("*a?" * 20 + "b", "a" * 60, id="glob"),
    ],
)
def test_hostile_patterns_take_no_time(pattern, key):
    start = time.process_time()
    matches(pattern, key)
    assert time.process_time() - start < 2


@pytest.mark.parametrize("pattern", ["send_*", "a.b#", "a.**", "", None, 3, "x" * 256])
def test_pattern_that_can_never_match_is_refused(pattern):
    with pytest.raises(ValueError, match="expected .*, got"):
        check_pattern(pattern)


def test_patterns_in_the_docs_do_what_they_say():
    page = (Path(__file__).parents[1] / "docs" / "config.md").read_text("utf-8")
    table = page.partition("| pattern |")[2].partition("\n\n")[0]
    rows = [re.findall(r"`([^`]+)`|(\|)", line) for line in table.splitlines()[2:]]
    assert len(rows) == 4
    for row in rows:
        (pattern,), fits, fits_not = (
            [text for text, bar in group if text]
            for is_bar, group in itertools.groupby(row, key=lambda cell: bool(cell[1]))
            if not is_bar
        )
        assert all(matches(pattern, key) for key in fits), pattern
        assert not any(matches(pattern, key) for key in fits_not), pattern


@pytest.mark.parametrize(
    ("regex", "key", "expected"),
    [
        pytest.param("mail", "mail.send", True, id="beginning"),
        pytest.param("mail$", "mail.send", False, id="end-must-be-said"),
        pytest.param("send", "mail.send", False, id="not-inside"),
        pytest.param(r".*\.(feed|news)", "mul.news", True, id="alternatives"),
    ],
)
def test_a_regex_fits_the_beginning_as_in_celery(regex, key, expected):
    assert matches(check_name_pattern(re.compile(regex)), key) is expected


@pytest.mark.parametrize("value", [re.compile(b"a"), "send_*", 3, None], ids=repr)
def test_what_stands_for_no_task_name_is_refused(value):
    with pytest.raises(ValueError, match="expected .*, got"):
        check_name_pattern(value)
