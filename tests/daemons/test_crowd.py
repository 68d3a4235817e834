"""Many personas: a boot without a long step, and a mention that is heard in time."""

from __future__ import annotations

from typing import TYPE_CHECKING

import trio
from living import Script, World

from rtos.scheduler.tracing.records import Step
from rtos.testing import TICK, spend
from rtos.user import audience
from rtos.user.audience import HEARERS
from rtos.user.directory import UserDirectoryManager
from rtos.user.hearing import ANSWER_WITHIN
from rtos.user.persona import PersonaUser
from rtos.user.priority import CALLED, LEVEL

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    import pytest

    from rtos.bus import Bus
    from rtos.user.coordination import Facts, Heard, Standing
    from rtos.user.passages import Passage
    from rtos.user.responder import Question, Reply

BUSY = 100
LONGEST = 4 * TICK


class Laborious(Script):
    """Thinks in steps, each of the longest that a persona may take."""

    def __init__(self) -> None:
        super().__init__()
        self.thinking: dict[str, float] = {}
        self.busy = 0
        self.all_busy = trio.Event()
        self.one_more = trio.Event()

    async def respond(self, question: Question, passages: Sequence[Passage]) -> Reply:
        self.thinking[question.text] = trio.current_time()
        self.busy += 1
        if self.busy == BUSY:
            self.all_busy.set()
        elif self.busy > BUSY:
            self.one_more.set()
        for _ in range(200):
            spend(LONGEST)
            await trio.lowlevel.checkpoint()
        return await super().respond(question, passages)


async def _people(bus: Bus, count: int, room: str, first: int = 0) -> None:
    """So many personas in one room with a human."""
    names = [f"p{first + number}" for number in range(count)]
    users = [(name, {"type": "persona", "display_name": name}) for name in names]
    made = [{"op": "create", "collection": "users", "id": id, "data": data} for id, data in users]
    for begin in range(0, count, 100):
        await bus.commands.execute("data/batch", operations=made[begin : begin + 100])
    place = {"name": room, "display_name": room, "member_ids": ["operator", *names]}
    await bus.commands.execute("data/create", collection="rooms", id=room, data=place)


async def _called(world: World, text: str) -> tuple[list[Step], float]:
    """What ran from a message to one of many to its first thought, and how long that took."""
    async with world.running() as bus:
        for number in range(BUSY):  # in one room one of them would answer for all
            await _people(bus, 1, f"room-{number}", number)
        await _people(bus, 1, "cell", BUSY)
        await trio.sleep(1)
        for number in range(BUSY):
            await bus.commands.execute("chat/send", room=f"room-{number}", text="what do you think?")
        await world.script.all_busy.wait()
        assert len(world.users._lives.serving()) == BUSY
        sent = trio.current_time()
        await bus.commands.execute("chat/send", room="cell", text=text)
        await world.script.one_more.wait()
        thought = world.script.thinking[text]
        steps = [record for record in bus.scheduler.trace.snapshot() if isinstance(record, Step)]
        assert bus.scheduler.trace.snapshot()[0].at / 1e9 < sent  # all of it is still there
        return [step for step in steps if sent <= step.at / 1e9 and step.end / 1e9 <= thought], thought - sent


async def test_a_mention_reaches_its_persona_within_the_bound_while_a_hundred_are_busy(
    tmp_path: Path, autojump_clock: trio.testing.MockClock
) -> None:
    world = World(tmp_path)
    world.script = Laborious()
    steps, waited = await _called(world, f"@p{BUSY} are you there?")
    # Who is on the way is ahead of all hundred: a step of theirs is waited for only where it was
    # under way when the daemon was told, and when the persona was given its task.
    assert {step.level for step in steps if step.name == f"persona p{BUSY}"} == {CALLED}
    lesser = [step for step in steps if step.level >= LEVEL]
    assert sum(step.steps for step in lesser) <= 2
    assert waited <= 2 * LONGEST


async def test_without_a_mention_it_takes_its_turn_among_the_hundred(
    tmp_path: Path, autojump_clock: trio.testing.MockClock
) -> None:
    world = World(tmp_path)
    world.script = Laborious()
    _, waited = await _called(world, "are you there?")
    assert waited > BUSY * LONGEST


async def test_a_boot_with_a_thousand_personas_has_no_long_step(
    tmp_path: Path, autojump_clock: trio.testing.MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = World(tmp_path)
    world.script.takes = 1e6
    async with world.running() as bus:
        await _people(bus, 1000, "hall")
        for text in ("@p7 one", "@p7 two", "@p7 three"):
            await bus.commands.execute("chat/send", room="hall", text=text)
    costs = 0

    def costing(kind: type, name: str) -> None:
        real = getattr(kind, name)

        def dear(*given: object, **named: object) -> object:
            nonlocal costs
            costs += 1
            spend(TICK)
            return real(*given, **named)

        monkeypatch.setattr(kind, name, dear)

    # One unit for each persona that is made, given its folders, and told of a message.
    costing(PersonaUser, "__init__")
    costing(PersonaUser, "hear")
    costing(UserDirectoryManager, "ensure_directories")
    async with world.running() as bus:
        contexts = bus.scheduler.statistics().contexts
        assert len(world.users._users) == 1002
        assert costs > 5000
        assert max(context.longest_step for context in contexts) <= HEARERS * TICK


async def test_of_a_thousand_who_hear_a_question_one_is_asked_and_no_step_is_long(
    tmp_path: Path, autojump_clock: trio.testing.MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = World(tmp_path)
    async with world.running() as bus:
        await _people(bus, 1000, "hall")
        await trio.sleep(1)
        real, looks = audience.stand, 0

        def dear(message: Heard, facts: Facts) -> Standing:
            nonlocal looks
            looks += 1
            spend(TICK)
            return real(message, facts)

        monkeypatch.setattr(audience, "stand", dear)
        before = {context.name: context.longest_step for context in bus.scheduler.statistics().contexts}
        await bus.commands.execute("chat/send", room="hall", text="who knows?")
        await trio.sleep(ANSWER_WITHIN)
        assert world.script.asked == ["who knows?"]
        assert looks == 2 * 1001, "once for the question and once for its answer"
        for context in bus.scheduler.statistics().contexts:
            assert context.longest_step <= max(HEARERS * TICK, before.get(context.name, 0.0))
