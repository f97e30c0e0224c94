"""What the worker does: summarize a file, mail where to look, tidy up."""

import csv
import io
import smtplib
import typing as t
from datetime import UTC, datetime, timedelta
from email.message import EmailMessage
from pathlib import Path

from flask import current_app, url_for

from flask_taskqueue import Task, shared_task

from .columns import Column
from .models import Report, db


@shared_task(bind=True)
def summarize(self: Task[..., t.Any], report_id: str) -> dict[str, t.Any]:
    """Fill a report. Safe to run again, as any task should be."""
    report = db.session.scalars(db.select(Report).filter_by(id=report_id)).one()
    size = Path(report.path).stat().st_size
    with Path(report.path).open("rb") as raw:
        lines = csv.reader(io.TextIOWrapper(raw, "utf-8-sig", newline=""))
        columns = [Column(name) for name in next(lines, [])]
        report.rows = 0
        for row in lines:
            report.rows += 1
            if report.rows % 10_000 == 1:
                self.progress(raw.tell(), size, f"{report.rows} rows")
            for column, text in zip(columns, row + [""] * len(columns), strict=False):
                column.add(text)
    report.columns = [column.summary() for column in columns]
    db.session.commit()
    return {"rows": report.rows, "columns": report.columns}


@shared_task(autoretry_for=(OSError,), retry_backoff=True, max_retries=5)
def send_link(report_id: str) -> None:
    """Mail where the report is; what SMTP says against it is an ``OSError``."""
    report = db.session.scalars(db.select(Report).filter_by(id=report_id)).one()
    config = current_app.config
    message = EmailMessage()
    message["Subject"] = f"{report.title}: {report.rows} rows"
    message["From"], message["To"] = config["MAIL_SENDER"], report.email
    link = url_for("reports.show", report_id=report_id, _external=True)
    message.set_content(f"Your report is ready:\n{link}\n")
    with smtplib.SMTP(config["MAIL_HOST"], config["MAIL_PORT"], timeout=10) as server:
        server.send_message(message)


@shared_task
def clean_up(days: int = 30) -> None:
    """Delete the reports that are older, and their files."""
    old = Report.created_at < datetime.now(UTC) - timedelta(days)
    for report in db.session.scalars(db.select(Report).where(old)).all():
        Path(report.path).unlink(missing_ok=True)
        db.session.delete(report)
    db.session.commit()


@shared_task(ignore_result=True)
def heartbeat() -> None:
    """Beat and a worker are there: the first page shows when they last were."""
    Path(current_app.instance_path, "alive").touch()
