"""The app that is served: ours, and a view that does one Redis ``GET``."""

from __future__ import annotations

import redis

from .contenders import ours

app = ours.create_app()
client = redis.Redis.from_url(app.config["TASKQUEUE_URL"], decode_responses=True)


@app.get("/value")
def value() -> dict[str, object]:
    """Of a key that somebody has set."""
    return {"value": client.get("value")}
