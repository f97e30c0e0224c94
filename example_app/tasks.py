"""What the worker does: read a file once, store what is in it, mail where to look."""

import csv
import io
import smtplib
import time
import typing as t
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
    size, due = Path(report.path).stat().st_size, 0.0
    with Path(report.path).open("rb") as raw:
        lines = csv.reader(io.TextIOWrapper(raw, "utf-8-sig", newline=""))
        columns = [Column(name) for name in next(lines, [])]
        report.rows = 0
        for row in lines:
            report.rows += 1
            if time.monotonic() >= due:
                self.progress(raw.tell(), size, f"{report.rows} rows")
                due = time.monotonic() + 0.2
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
