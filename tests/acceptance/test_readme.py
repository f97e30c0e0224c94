"""The README's quick start, done as it says: two commands and nothing installed."""

from __future__ import annotations

import json
import re
import typing as t
import urllib.request
from pathlib import Path

import pytest
from playwright.sync_api import Browser, expect

from ..browser import Web
from ..processes import AppFolder

README = Path(__file__).parents[2] / "README.md"


@pytest.fixture
def quick_start(tmp_path: Path) -> t.Iterator[AppFolder]:
    """The quick start's ``app.py``, in a folder of its own, without a URL."""
    text = README.read_text("utf-8")
    blocks = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    assert len(blocks) == 1
    folder = AppFolder(tmp_path, None, "app", source=blocks[0])
    yield folder
    folder.close()


def test_the_quick_start_does_what_the_readme_shows(
    quick_start: AppFolder, browser: Browser
) -> None:
    quick_start.worker()
    with Web(quick_start) as web:
        request = urllib.request.Request(f"{web.url}/count/10000", method="POST")
        with urllib.request.urlopen(request) as accepted:
            assert accepted.status == 202
            location = accepted.headers["Location"]
        page = browser.new_page()
        page.goto(f"{web.url}/jobs/{location.rpartition('/')[2]}")
        with urllib.request.urlopen(f"{web.url}{location}?wait=20") as answer:
            job = json.load(answer)
        assert (job["state"], job["result"]) == ("SUCCESS", 10000)
        expect(page.get_by_role("status")).to_contain_text("Done")
    shown = quick_start.flask("tasks", "list")
    assert location.rpartition("/")[2] in shown.stdout, shown


def test_the_quick_start_is_short(quick_start: AppFolder) -> None:
    assert len(quick_start.module_path.read_text("utf-8").splitlines()) <= 31
