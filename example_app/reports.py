"""The pages."""

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
from .tasks import send_link, summarize

blueprint = Blueprint("reports", __name__)


@blueprint.get("/")
def index() -> ResponseReturnValue:
    """The form and the reports so far, newest first."""
    newest = db.select(Report).order_by(Report.created_at.desc()).limit(100)
    return render_template("index.html", reports=db.session.scalars(newest).all())


@blueprint.post("/reports")
def create() -> ResponseReturnValue:
    """Store the file and the report; its job is enqueued when both are there."""
    upload, key = request.files.get("file"), str(uuid.uuid4())
    if not upload or not upload.filename:
        abort(400, "Choose a CSV file.")
    path = Path(current_app.config["DATA_FOLDER"], f"{key}.csv")
    upload.save(path)
    title = secure_filename(upload.filename) or "unnamed.csv"
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
