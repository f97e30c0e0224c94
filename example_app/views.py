"""The pages, each in HTML and in JSON, whichever the client prefers."""

from __future__ import annotations

import typing as t
import uuid
from pathlib import Path

from flask import (
    Blueprint,
    abort,
    current_app,
    redirect,
    render_template,
    request,
    url_for,
)
from flask.typing import ResponseReturnValue
from werkzeug.utils import secure_filename

from .models import Report, db
from .tasks import summarize, tq

blueprint = Blueprint("reports", __name__)


def wants_json() -> bool:
    """Whether the client likes JSON better than HTML."""
    offered = ["text/html", "application/json"]
    return request.accept_mimetypes.best_match(offered) == offered[1]


def chosen_file(report_id: str) -> tuple[str, str]:
    """Title and name in the data folder of the file a form uploads or names."""
    folder = Path(current_app.config["DATA_FOLDER"])
    upload = request.files.get("file")
    if upload and upload.filename:
        upload.save(folder / f"{report_id}.upload")
        return upload.filename, f"{report_id}.upload"
    name = request.form.get("name", "")
    if name and name == secure_filename(name) and (folder / name).is_file():
        return name, name
    abort(400, "Choose a CSV file, or name one that lies in the data folder.")


def as_dict(report: Report) -> dict[str, t.Any]:
    """A report in JSON's terms, with the state of its job."""
    job = tq.AsyncResult(report.id)
    return {
        "id": report.id,
        "title": report.title,
        "state": job.state,
        "ready": job.ready(),
        "rows": report.rows,
        "columns": report.columns,
        "links": {
            "self": url_for(".show", report_id=report.id),
            "task": url_for("taskqueue.status", job_id=report.id),
        },
    }


@blueprint.get("/")
def index() -> ResponseReturnValue:
    """The form and the reports so far, newest first."""
    reports = db.session.scalars(
        db.select(Report).order_by(Report.created_at.desc()).limit(100)
    ).all()
    names = sorted(
        path.name for path in Path(current_app.config["DATA_FOLDER"]).glob("*.csv")
    )
    return render_template("index.html", reports=reports, names=names)


@blueprint.post("/reports")
def create() -> ResponseReturnValue:
    """Stores the report first, so that the worker surely finds it."""
    report_id = str(uuid.uuid4())
    title, filename = chosen_file(report_id)
    db.session.add(Report(id=report_id, title=title, filename=filename))
    db.session.commit()
    result = summarize.apply_async((report_id,), task_id=report_id)
    if wants_json():
        return tq.accepted(result)
    return redirect(url_for(".show", report_id=report_id), 303)


@blueprint.get("/reports/<report_id>")
def show(report_id: str) -> ResponseReturnValue:
    """One report: how far its job is, or what it found."""
    report = as_dict(db.get_or_404(Report, report_id))
    return report if wants_json() else render_template("report.html", report=report)
