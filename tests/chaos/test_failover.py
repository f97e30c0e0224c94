"""A master that is lost, under load: Sentinel lets its replica take over."""

from __future__ import annotations

import signal
import time
import typing as t
from pathlib import Path

import pytest

from ..sentinels import Pair
from ..servers import Server, eventually
from .going_on import WITHIN, Load
from .stage import LONG, Stage

Say = t.Callable[[str], None]


def is_killed(master: Server) -> None:
    master.kill()


def hangs(master: Server) -> None:
    """What is connected to it hears nothing, and it may come back."""
    assert master.process is not None
    master.process.send_signal(signal.SIGSTOP)


@pytest.mark.parametrize("lose", [is_killed, hangs])
def test_all_go_on_with_the_replica(
    tmp_path: Path, say: Say, lose: t.Callable[[Server], None]
):
    with Pair(tmp_path / "pair") as pair, Stage(tmp_path, server=pair) as stage:
        load = Load(stage)
        with load.running() as producer:
            replicated = len(producer.accepted)
            assert stage.client.wait(1, 5000) == 1
            lose(pair.master)
            lost_at = time.monotonic()
            eventually(pair.is_promoted, 30)
            over = time.monotonic()
            stage.client.connection_pool.disconnect()
            went_on = load.measure(producer, over)
            if LONG and pair.master.process is not None:
                pair.master.process.send_signal(signal.SIGCONT)
                eventually(pair.is_demoted, 30)
            load.end(producer)
        stored = stage.audit.stored(producer.accepted)
        gone = [call for call in producer.accepted if not stored[call.id].status]
        say(
            f"a master that {lose.__name__.replace('_', ' ')}, its replica promoted"
            f" after {over - lost_at:.2f} s: {went_on}; {len(gone)} of"
            f" {len(producer.accepted)} accepted jobs were not replicated"
        )
        assert max(went_on) < WITHIN
        assert not {*gone} & {*producer.accepted[:replicated]}
        there = [call for call in producer.accepted if call not in gone]
        assert stage.audit.problems(there) == []
        load.assert_unharmed()
