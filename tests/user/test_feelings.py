"""Feelings: a change of a label is told once, with what is known of it, and by nobody else."""

from __future__ import annotations

from typing import Any

import attrs
import pytest

from rtos.bus import Events
from rtos.user.affect import PersonaState
from rtos.user.feelings import Feelings

NOW = 1_800_000_000.0


@attrs.define
class Clock:
    now: float = NOW

    def __call__(self) -> float:
        return self.now


@attrs.define
class Told:
    """In place of a bus: what is emitted, in order."""

    told: list[tuple[str, dict[str, Any]]] = attrs.field(factory=list)

    @property
    def events(self) -> Told:
        return self

    def emit(self, name: str, payload: dict[str, Any]) -> None:
        self.told.append((name, payload))

    def labels(self) -> list[tuple[str, str, str]]:
        return [(name.split(":")[1], payload["from"], payload["to"]) for name, payload in self.told]


def feelings() -> tuple[Feelings, Told, Clock]:
    told, clock = Told(), Clock()
    return Feelings(told, "ada", clock), told, clock  # type: ignore[arg-type]


def test_a_bus_has_what_the_fake_has() -> None:
    assert callable(Events.emit)


def test_changes_are_told_once_and_in_order() -> None:
    ada, told, clock = feelings()
    ada.begin_work(lively=True)
    ada.begin_work(lively=True)
    ada.burden(0.9)
    ada.burden(0.9)
    ada.burden(0.0)
    clock.now += 4 * 3600
    ada.end_work(0.0)
    assert told.labels() == [
        ("energy", "idle", "active"),  # it has begun
        ("energy", "active", "overwhelmed"),  # so much waits
        ("energy", "overwhelmed", "active"),  # and no more
        ("energy", "active", "tired"),  # after four hours
    ]
    assert {payload["persona_id"] for _, payload in told.told} == {"ada"}
    assert told.told[-1][1]["energy"] == ada.state.energy


def test_several_events_at_once_are_told_as_what_comes_of_them() -> None:
    ada, told, _ = feelings()
    ada.appraise("praised", "praised", "praised", "blamed", "blamed", "blamed", "blamed")
    assert [change for change in told.labels() if change[0] == "mood"] == [("mood", "calm", "upset")]
    assert ada.state.mood.pleasure < -0.3


def test_an_appraisal_that_there_is_not_is_an_error() -> None:
    ada, told, _ = feelings()
    with pytest.raises(KeyError, match="amused"):
        ada.appraise("amused")
    assert (told.told, ada.state) == ([], PersonaState.rested(NOW))


def test_quiet_work_makes_nobody_livelier() -> None:
    ada, told, _ = feelings()
    ada.begin_work(lively=False)
    assert (told.told, ada.state.duty) == ([], 1.0)


def test_what_was_stored_is_taken_up_where_time_has_brought_it() -> None:
    ada, told, clock = feelings()
    ada.begin_work(lively=True)
    ada.end_work(10_000.0)
    stored, spent = ada.state.to_builtins(), ada.state.energy
    clock.now += 1800
    told.told.clear()
    other = Feelings(told, "ada", clock)  # type: ignore[arg-type]
    other.wake(stored)
    assert spent < other.state.energy < 1.0
    assert other.next_crossing_in() > 0
    assert told.told == [], "nothing has happened"
