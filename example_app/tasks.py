"""What the worker does: read a file once and store what is in it."""

from __future__ import annotations

import csv
import io
import time
import typing as t
from pathlib import Path

from flask import current_app

from flask_taskqueue import Task, TaskQueue

from .columns import ColumnStatistics
from .models import Report, db

tq = TaskQueue()

PROGRESS_INTERVAL = 0.5
"""Seconds between two progress reports."""


def read(
    path: Path, progress: t.Callable[[int, int], object]
) -> tuple[int, list[ColumnStatistics]]:
    """Streams a CSV file with a header row; a field that a row lacks is missing.

    :param progress: Called with the bytes read and the size of the file, at the
        start and then each :data:`PROGRESS_INTERVAL`.
    :return: The number of rows, and the columns.
    """
    size = path.stat().st_size
    due = 0.0
    with path.open("rb") as raw:
        lines = csv.reader(io.TextIOWrapper(raw, "utf-8-sig", newline=""))
        columns = [ColumnStatistics(name) for name in next(lines, [])]
        rows = 0
        for row in lines:
            rows += 1
            if time.monotonic() >= due:
                progress(raw.tell(), size)
                due = time.monotonic() + PROGRESS_INTERVAL
            row += [""] * (len(columns) - len(row))
            for column, text in zip(columns, row, strict=False):
                column.add(text)
    return rows, columns


@tq.task(bind=True)
def summarize(self: Task[..., t.Any], report_id: str) -> dict[str, int]:
    """Fills a report. Safe to run again, as any task should be."""

    def progress(current: int, total: int) -> None:
        self.update_state(state="PROGRESS", meta={"current": current, "total": total})

    found = db.session.execute(db.select(Report).filter_by(id=report_id))
    report = found.scalar_one()
    path = Path(current_app.config["DATA_FOLDER"], report.filename)
    rows, columns = read(path, progress)
    report.rows, report.columns = rows, [column.summary() for column in columns]
    db.session.commit()
    return {"rows": rows, "columns": len(columns)}
