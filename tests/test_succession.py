"""When children of a worker leave, and when those in their place begin."""

from __future__ import annotations

import socket
import typing as t
from collections.abc import Callable

import pytest

from flask_taskqueue.worker.board import Board, Seen
from flask_taskqueue.worker.line import Place
from flask_taskqueue.worker.pools import Child, Seat
from flask_taskqueue.worker.succession import Step, Succession


class Made:
    """A child without a process."""

    def __init__(self, seats: list[Seat]) -> None:
        self.seats = seats
        self.pid = 0

    def death(self) -> str | None: ...

    def ask(self, seat: Seat, reason: str) -> None: ...

    def kill(
        self, seat: Seat | None = None, meant: Callable[[Seen], bool] | None = None
    ) -> bool:
        return False


class Scene:
    """A worker's children, as its supervisor would make them."""

    def __init__(self, size: int, slots: int = 1) -> None:
        self.succession = Succession(size)
        self.slots = slots
        self.children: list[Child] = []
        self.ready: set[str] = set()
        self.channels: dict[Seat, socket.socket] = {}
        for _ in range(size // slots):
            self.connect(self.hire())

    def hire(self) -> Child:
        seats = []
        for _ in range(self.slots):
            ours, theirs = socket.socketpair()
            place = Place(
                worker="w", label=str(len(self.channels)), queues=(), board=Board(),
                channel=theirs,
            )  # fmt: skip
            seats.append(Seat(place, ours))
            self.channels[seats[-1]] = theirs
        self.children.append(Made(seats))
        if self.succession.holds:
            self.succession.hold(self.children[-1])
        return self.children[-1]

    def connect(self, child: Child) -> None:
        self.ready |= {seat.label for seat in child.seats}

    def leave_off(self, seat: Seat) -> None:
        """It runs nothing more."""
        self.channels[seat].close()
        seat.hear()

    def bury(self, child: Child) -> None:
        self.children.remove(child)
        self.succession.forget(child)

    def step(self, *, hopeless: bool = False) -> Step:
        return self.succession.step(self.children, self.ready, hopeless=hopeless)

    def close(self) -> None:
        for seat, channel in self.channels.items():
            seat.close()
            channel.close()


NOTHING: tuple[list[Seat], list[Child]] = ([], [])


def what(step: Step) -> tuple[list[Seat], list[Child]]:
    return list(step.begin), list(step.leave)


@pytest.fixture
def scene() -> t.Iterator[Callable[..., Scene]]:
    made: list[Scene] = []

    def scene(size: int, slots: int = 1) -> Scene:
        made.append(Scene(size, slots))
        return made[-1]

    yield scene
    for one in made:
        one.close()


def test_a_child_leaves_when_its_replacement_is_connected(scene: t.Any):
    at = scene(2)
    old, other = at.children
    at.succession.replace(old)
    assert what(at.step()) == NOTHING
    new = at.hire()
    assert what(at.step()) == NOTHING
    at.connect(new)
    assert what(at.step()) == ([], [old])
    assert at.succession.was_told(old)
    assert not at.succession.was_told(other)


def test_a_replacement_begins_when_nothing_runs_in_its_place(scene: t.Any):
    at = scene(1)
    (old,) = at.children
    at.succession.replace(old)
    new = at.hire()
    at.connect(new)
    assert what(at.step()) == ([], [old])
    assert what(at.step()) == NOTHING
    at.leave_off(old.seats[0])
    assert what(at.step()) == (new.seats, [])
    at.bury(old)
    assert what(at.step()) == NOTHING
    assert not at.succession.holds


def test_slots_of_a_shared_child_begin_one_by_one(scene: t.Any):
    at = scene(3, slots=3)
    (old,) = at.children
    at.succession.replace(old)
    new = at.hire()
    at.connect(new)
    assert what(at.step()) == ([], [old])
    at.leave_off(old.seats[1])
    assert what(at.step()) == (new.seats[:1], [])
    at.leave_off(old.seats[0])
    at.leave_off(old.seats[2])
    assert what(at.step()) == (new.seats[1:], [])


def test_a_shared_child_does_not_leave_before_all_slots_are_connected(scene: t.Any):
    at = scene(2, slots=2)
    at.succession.replace(at.children[0])
    new = at.hire()
    at.ready.add(new.seats[0].label)
    assert what(at.step()) == NOTHING


def test_children_leave_in_the_order_they_were_asked_to(scene: t.Any):
    at = scene(3)
    first, second, third = at.children
    for child in (second, third, first):
        at.succession.replace(child)
    one, two = at.hire(), at.hire()
    at.connect(one)
    assert what(at.step()) == ([], [second])
    at.connect(two)
    assert what(at.step()) == ([], [third])
    assert what(at.step()) == NOTHING


def test_the_place_of_a_dead_child_is_filled_before_another_leaves(scene: t.Any):
    at = scene(2)
    old, dead = at.children
    at.succession.replace(old)
    at.bury(dead)
    one, two = at.hire(), at.hire()
    at.connect(one)
    assert what(at.step()) == (one.seats, [])
    at.connect(two)
    assert what(at.step()) == ([], [old])


def test_a_replacement_that_dies_leaves_the_old_child_where_it_is(scene: t.Any):
    at = scene(1)
    (old,) = at.children
    at.succession.replace(old)
    at.bury(at.hire())
    assert what(at.step()) == NOTHING
    assert not at.succession.was_told(old)


def test_a_replacement_is_replaced_without_having_begun(scene: t.Any):
    at = scene(1)
    (old,) = at.children
    at.succession.replace(old)
    new = at.hire()
    at.connect(new)
    at.step()
    at.succession.replace(new)
    newest = at.hire()
    at.connect(newest)
    assert what(at.step()) == ([], [new])
    at.bury(new)
    at.leave_off(old.seats[0])
    assert what(at.step()) == (newest.seats, [])


def test_without_hope_of_replacements_all_leave(scene: t.Any):
    at = scene(2)
    for child in at.children:
        at.succession.replace(child)
    assert what(at.step(hopeless=True)) == ([], at.children)
