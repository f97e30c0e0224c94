"""The pages."""

import uuid
from datetime import UTC, datetime
from pathlib import Path

from flask import Blueprint, current_app, redirect, render_template, request, url_for
from flask.typing import ResponseReturnValue
from werkzeug.utils import secure_filename

from .models import Report, db
from .tasks import send_link, summarize

blueprint = Blueprint("reports", __name__)


@blueprint.get("/")
def index() -> ResponseReturnValue:
    """The form and the reports so far, newest first."""
    newest = db.select(Report).order_by(Report.created_at.desc()).limit(100)
    reports, file = db.session.scalars(newest), Path(current_app.instance_path, "alive")
    alive = datetime.fromtimestamp(file.stat().st_mtime, UTC) if file.exists() else None
    return render_template("index.html", reports=reports.all(), alive=alive)


@blueprint.post("/reports")
def create() -> ResponseReturnValue:
    """Store the file and the report; its job is enqueued when both are there."""
    upload, key = request.files["file"], str(uuid.uuid4())  # without a file: 400
    path = Path(current_app.config["DATA_FOLDER"], f"{key}.csv")
    upload.save(path)
    title = secure_filename(upload.filename or "") or "unnamed.csv"
    email = "".join(request.form.get("email", "").split())
    db.session.add(Report(id=key, title=title, email=email, path=str(path)))
    mail = [send_link.si(key)] if email else []
    summarize.apply_async_on_commit((key,), task_id=key, link=mail)
    db.session.commit()
    return redirect(url_for(".show", report_id=key), 303)


@blueprint.get("/reports/<report_id>")
def show(report_id: str) -> ResponseReturnValue:
    """One report: how far its job is, or what it found."""
    return render_template("report.html", report=db.get_or_404(Report, report_id))
