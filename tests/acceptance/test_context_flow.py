"""What a real worker's jobs have of the page, or the shell, that enqueued them."""

from __future__ import annotations

import typing as t
from pathlib import Path

import pytest

from flask_taskqueue import AsyncResult

from ..processes import AppFolder
from .live import calling


@pytest.fixture
def folder(tmp_path: Path, redis_url: str) -> t.Iterator[AppFolder]:
    server_name = "shell.example:8443"
    folder = AppFolder(
        tmp_path, redis_url, "carried",
        FLASK_SERVER_NAME=server_name, FLASK_PREFERRED_URL_SCHEME="https",
    )  # fmt: skip
    yield folder
    folder.close()


FORWARDED = {
    "X-Forwarded-Proto": "https",
    "X-Forwarded-Host": "public.example",
    "X-Forwarded-Prefix": "/tools",
}


def test_what_travels_and_what_does_not(folder: AppFolder):
    # One child, so that each job could find what the one before left behind.
    folder.worker("-c", "1")
    expected = {"request": False, "user": "NoneType", "g": [], "outside": "unset"}
    with calling(folder) as module:
        app = module.tq.state.app
    browser = app.test_client()
    visits = [
        ("http://10.0.0.7:8000", FORWARDED, "https://public.example/tools/start"),
        ("http://plain.example/p", {}, "http://plain.example/p/start"),
    ]
    for turn, (base, headers, url) in enumerate(visits):
        language, month = [("de", "März"), ("cs", "března")][turn]
        given = {**headers, "Accept-Language": language, "X-Request-ID": f"r-{turn}"}
        page = browser.post("/start", base_url=base, headers=given).get_json()
        assert (page["url"], page["month"]) == (url, month)
        seen = {
            **expected, "url": url, "month": month,
            "headers": {"X-Request-ID": f"r-{turn}"},
        }  # fmt: skip
        with app.app_context():
            jobs = {name: AsyncResult(job) for name, job in page["jobs"].items()}
            assert jobs["tell"].get(timeout=20) == seen
            within = {**seen, "request": True, "user": "AnonymousUserMixin"}
            assert jobs["tell_within"].get(timeout=20) == within
            below = AsyncResult(jobs["relay"].get(timeout=20))
            assert below.get(timeout=20) == seen
    enqueued = folder.flask("enqueue")
    assert enqueued.returncode == 0, enqueued.stderr
    with app.app_context():
        assert AsyncResult(enqueued.stdout.strip()).get(timeout=20) == {
            **expected, "url": "https://shell.example:8443/start", "month": "March",
            "headers": {},
        }  # fmt: skip
        module.tq.state.broker.close()
