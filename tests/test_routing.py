import re

import pytest

from flask_taskqueue.routing import QueueRule, Route, Router


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
        pytest.param(
            {re.compile(r"a\.\d"): "p", "a.12": "q"}, "a.12", "q", id="name-first"
        ),
        pytest.param({re.compile(r"a\.\d"): "p"}, "a.12", "p", id="regex"),
        pytest.param({re.compile(r"a\.\d$"): "p"}, "a.12", "default", id="regex-not"),
        pytest.param({"a.*": "p", re.compile("a"): "q"}, "a.b", "p", id="regex-later"),
        pytest.param([(re.compile("a"), "q"), ("a.b", "p")], "a.b", "q", id="regexes"),
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
        pytest.param(
            ["a"], {"x": {"exchange": "b"}}, "default", id="value-exchange-alone"
        ),
        pytest.param(["a"], {"send_*": "b"}, "default", id="pattern-never-fits"),
        pytest.param(["a"], {re.compile(b"x"): "b"}, "default", id="regex-of-bytes"),
        pytest.param(
            ["a"],
            {"x": {"queue": "b", "exchange_type": "fanout"}},
            "default",
            id="exchange-fanout",
        ),
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


@pytest.mark.parametrize("kind", ["direct", "topic", None])
def test_an_exchange_changes_nothing(kind):
    route = {"queue": "q", "exchange": "media", "exchange_type": kind}
    assert Route.parse(route) == Route("q", None)
