import itertools
import re
import time
from pathlib import Path

import pytest

from flask_taskqueue.routing import QueueRule, Route, Router, check_pattern, matches


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


@pytest.mark.parametrize(
    ("entry", "rule"),
    [
        pytest.param("mail", QueueRule("mail"), id="name"),
        pytest.param({"name": "mail"}, QueueRule("mail"), id="dict"),
        pytest.param(
            {"name": "f", "routing_key": "*.feed"}, QueueRule("f", "*.feed"), id="key"
        ),
        pytest.param({"name": "f", "routing_key": None}, QueueRule("f"), id="none"),
        pytest.param(QueueRule("a"), QueueRule("a"), id="rule"),
        pytest.param("q" * 200, QueueRule("q" * 200), id="200-characters"),
        pytest.param("später", QueueRule("später"), id="not-ascii"),
    ],
)
def test_queue_rule_is_parsed(entry, rule):
    assert QueueRule.parse(entry) == rule


@pytest.mark.parametrize(
    "entry",
    [
        pytest.param("", id="empty"),
        pytest.param("a b", id="space"),
        pytest.param("a\n", id="newline-at-end"),
        pytest.param("a\x00", id="control"),
        pytest.param("a\x85", id="control-c1"),
        pytest.param("a\ud800", id="surrogate"),
        pytest.param("a,b", id="comma"),
        pytest.param("a:b", id="colon"),
        pytest.param("q" * 201, id="201-characters"),
        pytest.param(3, id="int"),
        pytest.param(None, id="none"),
        pytest.param(b"mail", id="bytes"),
        pytest.param({}, id="no-name"),
        pytest.param({"name": 3}, id="name-int"),
        pytest.param({"name": "a", "exchange": "b"}, id="unknown-key"),
        pytest.param({"name": "a", "routing_key": 3}, id="key-int"),
        pytest.param({"name": "a", "routing_key": "x*"}, id="key-never-fits"),
        pytest.param(["a", "*.b"], id="list"),
    ],
)
def test_bad_queue_rule_is_refused(entry):
    with pytest.raises(ValueError, match="(?s)expected .*, got"):
        QueueRule.parse(entry)


QUEUES = [
    "default",
    {"name": "feed_task", "routing_key": "*.feed"},
    {"name": "task", "routing_key": "task.#"},
    {"name": "late", "routing_key": "task.late"},
]
ROUTES = {
    "jobs.#": "by_pattern",
    "jobs.one": "by_name",
    "keyed": {"routing_key": "task.x"},
    "both": {"queue": "q", "routing_key": "task.x"},
    "lost": {"routing_key": "no.such.key"},
}


def routed(name="other", queues=QUEUES, routes=ROUTES, **given):
    return Router.parse(queues, routes, "default").queue_for(name, (), {}, {}, **given)


@pytest.mark.parametrize(
    ("name", "given", "expected"),
    [
        pytest.param("other", {}, ("default", None), id="default"),
        pytest.param(
            "jobs.one",
            {
                "call_queue": "c",
                "call_routing_key": "task.x",
                "task_queue": "t",
                "task_routing_key": "x.feed",
            },
            ("c", "task.x"),
            id="call-queue",
        ),
        pytest.param(
            "jobs.one",
            {
                "call_routing_key": "task.x",
                "task_queue": "t",
                "task_routing_key": "x.feed",
            },
            ("task", "task.x"),
            id="call-key",
        ),
        pytest.param(
            "jobs.one",
            {"call_routing_key": "nowhere", "task_queue": "t"},
            ("t", "nowhere"),
            id="call-key-falls-through-to-task",
        ),
        pytest.param(
            "jobs.one",
            {"call_routing_key": "nowhere"},
            ("by_name", "nowhere"),
            id="call-key-falls-through-to-route",
        ),
        pytest.param(
            "x.feed",
            {"call_routing_key": "nowhere"},
            ("default", "nowhere"),
            id="call-key-stands-for-the-name",
        ),
        pytest.param(
            "jobs.one",
            {"task_queue": "t", "task_routing_key": "x.feed"},
            ("t", "x.feed"),
            id="task-queue",
        ),
        pytest.param(
            "jobs.one",
            {"task_routing_key": "x.feed"},
            ("feed_task", "x.feed"),
            id="task-key",
        ),
        pytest.param(
            "other",
            {"task_routing_key": "task.late"},
            ("task", "task.late"),
            id="queues-in-order",
        ),
        pytest.param("jobs.one", {}, ("by_name", None), id="exact-route-first"),
        pytest.param("jobs.two", {}, ("by_pattern", None), id="pattern-route"),
        pytest.param("keyed", {}, ("task", "task.x"), id="route-key"),
        pytest.param("both", {}, ("q", "task.x"), id="route-queue-before-its-key"),
        pytest.param("lost", {}, ("default", "no.such.key"), id="route-key-unknown"),
        pytest.param("x.feed", {}, ("feed_task", None), id="name-against-queues"),
        pytest.param("default", {}, ("default", None), id="plain-queue-takes-no-key"),
        pytest.param("late", {}, ("default", None), id="queue-name-is-no-pattern"),
    ],
)
def test_queue_for(name, given, expected):
    assert routed(name, **given) == expected


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        pytest.param({}, ("default", None), id="default"),
        pytest.param({"task_queue": "t"}, ("t", None), id="task"),
        pytest.param(
            {"task_queue": "t", "call_queue": "c", "task_routing_key": "k"},
            ("c", "k"),
            id="call",
        ),
        pytest.param({"call_routing_key": "k"}, ("default", "k"), id="key"),
    ],
)
def test_without_routes_and_patterns_the_answer_is_the_same(given, expected):
    assert routed(queues=["default"], routes={}, **given) == expected
    never = [{"name": "never", "routing_key": "never.ever"}]
    assert routed(queues=never, routes={}, **given) == expected


def mail_or_nothing(name, args, kwargs, options):
    return "mail" if name.startswith("mail") else None


@pytest.mark.parametrize(
    ("routes", "name", "queue"),
    [
        pytest.param([("a.#", "p"), ("a.b", "q")], "a.b", "p", id="first-pair-wins"),
        pytest.param([["a.b", {"queue": "q"}]], "a.b", "q", id="pair-of-json"),
        pytest.param(mail_or_nothing, "mail.x", "mail", id="function"),
        pytest.param(mail_or_nothing, "x", "default", id="function-none"),
        pytest.param([mail_or_nothing, ("x", "q")], "x", "q", id="mixed-goes-on"),
        pytest.param(
            [{"a": "p"}, mail_or_nothing, {"mail.x": "late"}],
            "mail.x",
            "mail",
            id="mixed-in-order",
        ),
        pytest.param([{"b.*": "p", "b.c": "q"}], "b.c", "q", id="dict-in-list"),
        pytest.param({"a.[bc]": "q"}, "a.c", "q", id="glob"),
        pytest.param({"a.#": "p", "a.*": "q"}, "a.c", "p", id="patterns-in-order"),
        pytest.param([], "a", "default", id="no-routes"),
    ],
)
def test_routes_of_every_shape(routes, name, queue):
    assert routed(name, ["default"], routes)[0] == queue


def test_route_function_gets_the_call_and_is_not_asked_without_need():
    calls = []
    router = Router.parse(["default"], lambda *call: calls.append(call), "default")
    router.queue_for("x", (1,), {"k": 2}, {"priority": 3}, task_queue="t")
    assert calls == []
    assert router.queue_for("x", (1,), {"k": 2}, {"priority": 3})[0] == "default"
    assert calls == [("x", (1,), {"k": 2}, {"priority": 3})]


def test_routing_key_of_a_route_function_finds_a_queue():
    assert routed(routes=lambda *_: {"routing_key": "x.feed"}) == (
        "feed_task",
        "x.feed",
    )


@pytest.mark.parametrize("answer", [3, "", "a b", {}, {"exchange": "x"}, ["q"]])
def test_bad_answer_of_a_route_function_names_it(answer):
    def chooses_badly(name, args, kwargs, options):
        return answer

    with pytest.raises(ValueError, match=r"chooses_badly.*'jobs\.x'.* got ") as caught:
        routed("jobs.x", routes=chooses_badly)
    assert repr(answer) in str(caught.value)


@pytest.mark.parametrize(
    ("queues", "routes", "default"),
    [
        pytest.param([], {}, "default", id="no-queues"),
        pytest.param("default", {}, "default", id="queues-text"),
        pytest.param({"a", "b"}, {}, "default", id="queues-set"),
        pytest.param(["a"], {}, "", id="default-empty"),
        pytest.param(["a"], {}, None, id="default-none"),
        pytest.param(["a"], None, "default", id="routes-none"),
        pytest.param(["a"], "a", "default", id="routes-text"),
        pytest.param(["a"], ["a", "b"], "default", id="routes-texts"),
        pytest.param(["a"], [("a",)], "default", id="pair-of-one"),
        pytest.param(["a"], {3: "a"}, "default", id="name-int"),
        pytest.param(["a"], [(3, "a")], "default", id="pair-name-int"),
        pytest.param(["a"], [([], "a")], "default", id="pair-name-list"),
        pytest.param(["a"], {"x": None}, "default", id="value-none"),
        pytest.param(["a"], {"x": {}}, "default", id="value-empty"),
        pytest.param(["a"], {"x": {"queue": "a,b"}}, "default", id="value-queue"),
        pytest.param(["a"], {"x": {"routing_key": 3}}, "default", id="value-key"),
        pytest.param(["a"], {"x": {"exchange": "b"}}, "default", id="value-unknown"),
        pytest.param(["a"], {"send_*": "b"}, "default", id="pattern-never-fits"),
    ],
)
def test_router_is_checked_when_made(queues, routes, default):
    with pytest.raises(ValueError, match="expected .*, got"):
        Router.parse(queues, routes, default)


def test_queue_names_are_each_once_in_order():
    queues = ["b", {"name": "a", "routing_key": "x"}, {"name": "b", "routing_key": "y"}]
    assert Router.parse(queues, {}, "default").queue_names == ("b", "a")


def test_later_changes_of_the_routes_do_not_reach_the_router():
    routes = {"a": "q"}
    router = Router.parse(["default"], routes, "default")
    routes["a"] = "changed"
    assert router.queue_for("a", (), {}, {})[0] == "q"


def test_route_is_parsed():
    assert Route.parse("q") == Route("q", None)
    assert Route.parse({"routing_key": "k"}) == Route(None, "k")


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
