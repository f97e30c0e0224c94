"""The example in a real browser: upload, a bar that moves, a chart, a mail."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import typing as t
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from ..servers import eventually

EXAMPLE = Path(__file__).parents[2] / "example_app"


@pytest.fixture
def demo(tmp_path: Path) -> t.Iterator[str]:
    """URL of a running ``flask demo``."""
    shutil.copytree(EXAMPLE, tmp_path / "example_app")
    command = [sys.executable, "-m", "flask", "--app", "example_app", "demo"]
    with subprocess.Popen(
        command,
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
    ) as process:
        assert process.stdout is not None
        try:
            url = next(process.stdout).split()[1]
            next(line for line in process.stdout if "Running on" in line)
            yield url
        finally:
            process.send_signal(signal.SIGINT)
            process.stdout.read()


@pytest.fixture
def sample(tmp_path: Path) -> Path:
    """A file whose summary takes long enough to be watched."""
    path = tmp_path / "sample.csv"
    rows = "".join(f"{number},text\n" for number in range(600_000))
    path.write_text(f"number,word\n{rows}")
    return path


def upload(page: Page, url: str, sample: Path) -> None:
    page.goto(url)
    page.get_by_label("CSV file").set_input_files(sample)
    page.get_by_label("Mail a link").fill("you@example.org")
    page.get_by_role("button", name="Summarize").click()
    expect(page.get_by_role("heading", name="sample.csv")).to_be_visible()


def mails(folder: Path) -> list[str]:
    return [mail.read_text() for mail in folder.glob("instance/mails/new/*")]


def test_an_upload_moves_the_bar_and_ends_in_a_chart_and_a_mail(
    demo: str, browser: Browser, sample: Path, tmp_path: Path
) -> None:
    page = browser.new_page()
    upload(page, demo, sample)
    lengths: set[float] = set()

    def moved() -> bool:
        shown = page.evaluate("document.querySelector('progress')?.position ?? -1")
        lengths.add(shown)
        return len([length for length in lengths if 0 < length < 1]) >= 2

    eventually(moved, message="the bar moves")
    chart = page.get_by_role("img", name="Histogram of number")
    expect(chart).to_be_visible()
    assert chart.locator("rect").count() == 24
    expect(page.get_by_role("cell", name="299999.5")).to_be_visible()
    eventually(lambda: any(page.url in mail for mail in mails(tmp_path)))


def test_without_javascript_the_page_leads_to_the_chart(
    demo: str, browser: Browser, sample: Path
) -> None:
    page = browser.new_context(java_script_enabled=False).new_page()
    upload(page, demo, sample)

    def there() -> bool:
        if page.get_by_role("img").count():
            return True
        page.get_by_role("link", name="Refresh").click()
        return False

    eventually(there, message="the chart")
