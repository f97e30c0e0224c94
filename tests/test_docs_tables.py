"""Tables of the docs name everything there is, and nothing else."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import flask_taskqueue
from flask_taskqueue import AsyncResult, Task, TaskQueue, errors, states
from flask_taskqueue.beat.records import Record
from flask_taskqueue.options import CallOptions, DecoratorOptions, SharedOptions
from flask_taskqueue.request import TaskRequest

CHECKOUT = Path(__file__).parents[1]
DOCS = CHECKOUT / "docs"
SHARED = set(SharedOptions.__optional_keys__)

REFERENCE: dict[str, tuple[object, str]] = {
    "TaskQueue": (TaskQueue(), "state state_of"),
    "Task": (
        Task.from_function(len),
        "bind check_args from_function function invoke options origin overridden owner",
    ),
    "Request": (
        TaskRequest(),
        "entered given_up policy postponed reporter runner said state",
    ),
    "AsyncResult": (AsyncResult("a"), ""),
    "Signature": (Task.from_function(len).s(), "target"),
    "Schedules": (TaskQueue().schedules, ""),
    "Record": (Record(id="a", name="a"), ""),
}
"""Objects by their headings in ``reference.md``, and which of their attributes are for
the package's other modules."""

EXCEPTIONS = {
    name: value
    for name, value in vars(errors).items()
    if isinstance(value, type) and issubclass(value, errors.TaskQueueError)
}


def first_column(page: str, heading: str = "") -> list[str]:
    """Names in the first column of the tables below a heading."""
    text = (DOCS / page).read_text("utf-8")
    if heading:
        text = text.partition(f"## {heading}\n")[2].partition("\n## ")[0]
    cells = re.findall(r"^\| ([^|]+) \|", text, re.MULTILINE)
    return [name for cell in cells for name in re.findall(r"`(\w+)[`(]", cell)]


@pytest.mark.parametrize(
    ("heading", "names"),
    [
        ("Of a task and of a call", SHARED),
        (
            "Of a task",
            set(DecoratorOptions.__optional_keys__) - SHARED | {"name", "bind", "base"},
        ),
        ("Of a call", set(CallOptions.__optional_keys__) - SHARED),
    ],
    ids=["shared", "task", "call"],
)
def test_every_option_is_in_the_table(heading, names):
    shown = first_column("options.md", heading)
    assert sorted(shown) == sorted(names)


def test_every_state_is_in_the_table():
    known = {
        value
        for value in vars(states).values()
        if isinstance(value, str) and value.isupper()
    }
    shown = (DOCS / "states.md").read_text("utf-8").partition("RQ's tools")[0]
    cells = re.findall(r"^\| `([A-Z]+)`", shown, re.MULTILINE)
    assert sorted(cells) == sorted(known)


def test_every_status_of_rq_is_in_the_table():
    text = (DOCS / "states.md").read_text("utf-8").partition("RQ's tools")[2]
    shown = re.findall(r"`([a-z]+)`", " ".join(re.findall(r"^\| (.+?) \|", text, re.M)))
    assert sorted(shown) == sorted(states.WAITING | states.ENDED | {"started"})


@pytest.mark.parametrize("heading", REFERENCE)
def test_every_attribute_is_in_the_reference(heading):
    instance, hidden = REFERENCE[heading]
    known = {name for name in dir(instance) if not name.startswith("_")}
    own = set(hidden.split())
    assert own <= known
    assert sorted(first_column("reference.md", heading)) == sorted(known - own)


def test_every_exception_is_in_the_reference_with_its_built_in_base():
    text = (DOCS / "reference.md").read_text("utf-8").partition("## Errors")[2]
    rows = re.findall(r"^\| `(\w+)` \| (?:`(\w+)` )?\|", text, re.MULTILINE)
    built_in = {
        name: [x.__name__ for x in cls.__bases__ if x.__module__ == "builtins"]
        for name, cls in EXCEPTIONS.items()
    }
    built_in["TaskQueueError"].remove("Exception")
    assert sorted(rows) == sorted((name, "".join(x)) for name, x in built_in.items())


def test_every_name_to_import_is_in_the_reference():
    row = re.search(
        r"^\| `flask_taskqueue` \| (.+) \|$",
        (DOCS / "reference.md").read_text("utf-8"),
        re.MULTILINE,
    )
    assert row is not None
    shown = re.findall(r"`(\w+)`", row[1])
    assert sorted(shown) == sorted(flask_taskqueue.__all__)


def test_every_page_is_reached_from_the_readme():
    readme = (CHECKOUT / "README.md").read_text("utf-8")
    linked = set(re.findall(r"\(docs/([\w-]+\.md)\)", readme))
    assert linked == {page.name for page in DOCS.glob("*.md")}


def test_links_between_pages_lead_somewhere():
    for page in [CHECKOUT / "README.md", *DOCS.glob("*.md")]:
        for target in re.findall(r"\]\((?!https?:)([^)#]+)", page.read_text("utf-8")):
            assert (page.parent / target).exists(), f"{page.name}: {target}"


def test_links_to_a_heading_find_it():
    for page in DOCS.glob("*.md"):
        links = re.findall(r"\]\(([\w.-]*)#([^)]+)\)", page.read_text("utf-8"))
        for target, anchor in links:
            text = (DOCS / (target or page.name)).read_text("utf-8")
            headings = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
            # As GitHub makes them.
            known = {
                re.sub(r"[^\w -]", "", h).lower().replace(" ", "-") for h in headings
            }
            assert anchor in known, f"{page.name}: {target}#{anchor}"
