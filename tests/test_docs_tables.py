"""Tables of the docs name everything there is, and nothing else."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from flask_taskqueue import states
from flask_taskqueue.options import CallOptions, DecoratorOptions, SharedOptions

CHECKOUT = Path(__file__).parents[1]
DOCS = CHECKOUT / "docs"
SHARED = set(SharedOptions.__optional_keys__)


def first_column(page: str, heading: str = "") -> list[str]:
    """Names in the first column of the tables below a heading."""
    text = (DOCS / page).read_text("utf-8")
    if heading:
        text = text.partition(f"## {heading}\n")[2].partition("\n## ")[0]
    cells = re.findall(r"^\| ([^|]+) \|", text, re.MULTILINE)
    return [name for cell in cells for name in re.findall(r"`([\w]+)`", cell)]


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


def test_every_page_is_reached_from_the_readme():
    readme = (CHECKOUT / "README.md").read_text("utf-8")
    linked = set(re.findall(r"\(docs/([\w-]+\.md)\)", readme))
    assert linked == {page.name for page in DOCS.glob("*.md")}


def test_links_between_pages_lead_somewhere():
    for page in [CHECKOUT / "README.md", *DOCS.glob("*.md")]:
        for target in re.findall(r"\]\((?!https?:)([^)#]+)", page.read_text("utf-8")):
            assert (page.parent / target).exists(), f"{page.name}: {target}"
