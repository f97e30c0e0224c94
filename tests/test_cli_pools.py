"""How a command is started anew for gevent."""

from __future__ import annotations

import pytest

from flask_taskqueue.cli.anew import patched_command


@pytest.mark.parametrize(
    ("command", "module", "expected"),
    [
        pytest.param(
            "python -m flask --app shop worker",
            "flask",
            "-m gevent.monkey --module flask --app shop worker",
            id="module",
        ),
        pytest.param(
            "python -mflask --app shop worker",
            "flask",
            "-m gevent.monkey --module flask --app shop worker",
            id="module-in-one-word",
        ),
        pytest.param(
            "python /venv/bin/flask --app shop worker",
            None,
            "-m gevent.monkey /venv/bin/flask --app shop worker",
            id="script",
        ),
        pytest.param(
            "python -X dev -W error manage.py --app shop worker",
            None,
            "-X dev -W error -m gevent.monkey manage.py --app shop worker",
            id="options-of-python",
        ),
    ],
)
def test_gevent_patches_first_what_is_run(
    command: str, module: str | None, expected: str
):
    assert patched_command(command.split(), 3, module) == expected.split()
