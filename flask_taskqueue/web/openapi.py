"""``openapi.json``: the endpoint as OpenAPI 3.1 describes it, of this app."""

from __future__ import annotations

import json
from pathlib import Path

from flask import Response, request, url_for

_FILE = Path(__file__).with_name("static") / "openapi.json"


def openapi() -> Response:
    """Answer the description, its server where the endpoint is."""
    document = json.loads(_FILE.read_text("utf-8"))
    prefix = url_for("taskqueue.openapi").removesuffix("/static/openapi.json")
    document["servers"][0]["url"] = prefix
    answer = Response(json.dumps(document, indent=2) + "\n")
    answer.mimetype = "application/json"
    answer.headers["Cache-Control"] = "no-cache"
    answer.add_etag()
    answer.make_conditional(request)
    return answer
