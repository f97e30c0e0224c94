"""Reports, in SQLite."""

from __future__ import annotations

import typing as t
from datetime import UTC, datetime

from flask_sqlalchemy import SQLAlchemy
from sqlalchemy import JSON
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column


class Base(DeclarativeBase):
    """Base of the models."""


db = SQLAlchemy(model_class=Base)


class Report(Base):
    """A file and, once its job has ended, what is in it.

    The id is that of its job too, so ``/tasks/<id>`` tells how it is doing. Each of
    the columns is a :meth:`~example_app.columns.ColumnStatistics.summary`.
    """

    __tablename__ = "report"

    id: Mapped[str] = mapped_column(primary_key=True)
    title: Mapped[str]
    filename: Mapped[str]  # in the data folder
    created_at: Mapped[datetime] = mapped_column(default=lambda: datetime.now(UTC))
    rows: Mapped[int | None]
    columns: Mapped[list[dict[str, t.Any]]] = mapped_column(JSON, default=list)
