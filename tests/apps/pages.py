"""Pages with progress bars, and a task that does what a test says."""

import json
import typing as t

from flask import Flask, Response, render_template_string, request
from redis import Redis

from flask_taskqueue import Task, TaskQueue

PAGE = """
<!doctype html>
<html lang="en">
<title>Jobs</title>
{% for id in request.args.getlist("id") -%}
<p>{{ task_progress(id, label="Import " ~ loop.index, **options) }}</p>
{% endfor -%}
<form action="/jobs" method="post"><button>Start</button></form>
<output></output>
{% if "script" in request.args -%}
<script type="module" src="{{ url_for('static', filename=request.args.script) }}">
</script>
{%- endif %}
"""

app = Flask(__name__)
app.config.from_prefixed_env()
tq = TaskQueue(app)


@tq.task(bind=True, max_retries=0)
def obey(self: Task[[], t.Any]) -> t.Any:
    """Takes orders from a list until one ends it."""
    # Orders may take longer to come than a reply.
    with Redis.from_url(app.config["TASKQUEUE_URL"], socket_timeout=None) as client:
        while True:
            _, line = client.blpop([f"orders:{self.request.id}"])
            order, value = json.loads(line)
            if order == "return":
                return value
            if order == "raise":
                raise ValueError(value)
            self.progress(*value)


@app.post("/jobs")
def start() -> Response:
    return tq.accepted(obey.delay())


@app.get("/bars")
def bars() -> str:
    known = {"reload", "next"} & request.args.keys()
    options = {name: request.args[name] for name in known}
    return render_template_string(PAGE, options=options)


@app.get("/done")
def done() -> str:
    return "<!doctype html><title>Done</title><h1>All is done</h1>"


@app.after_request
def allow_own_only(response: Response) -> Response:
    response.headers["Content-Security-Policy"] = "default-src 'self'"
    return response
