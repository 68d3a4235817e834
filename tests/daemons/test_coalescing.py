"""What one human says in one room while a persona is at work has one reply, whatever goes wrong."""

from __future__ import annotations

from collections import Counter
from random import Random
from typing import TYPE_CHECKING, Any

import pytest
import trio
from living import Script, World, humans

from rtos.errors import CommandRejected, Conflict, StoreBusy
from rtos.user.claims import is_note, memory_id, reply_id
from rtos.user.hearing import ANSWER_WITHIN
from rtos.user.inbox import MOST_COVERED, MOST_TOGETHER
from rtos.user.persona import PersonaUser
from rtos.user.questions import TURN
from rtos.user.records import Records
from rtos.user.responder import Reply
from rtos.user.servicing import LATE, REFUSALS

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from trio.testing import MockClock

    from rtos.bus import Bus
    from rtos.user.passages import Passage
    from rtos.user.responder import Question

HELPER = "helper-ai"
THREE = ("one", "two", "three")


class Thinker(Script):
    """Thinks for as long as it is told about a text or by a name, and fails at whatever has poison in it."""

    def __init__(self) -> None:
        super().__init__()
        self.slow: dict[str, float] = {}
        self.thought: list[tuple[str, str]] = []

    async def respond(self, question: Question, passages: Sequence[Passage]) -> Reply:
        self.thought.append((question.persona, question.text))
        if "poison" in question.text:
            raise ValueError("no words")
        await trio.sleep(self.slow.get(question.text, self.slow.get(question.persona, self.takes)))
        return Reply(f"re: {question.text}")


@pytest.fixture
def world(tmp_path: Path) -> World:
    world = World(tmp_path)
    world.script = Thinker()
    world.script.takes = 5.0
    return world


async def say(bus: Bus, *texts: str, room: str = "general", sender: str = "operator") -> list[str]:
    """The ids of what was said."""
    sent = [await bus.commands.execute("chat/send", room=room, text=text, sender=sender) for text in texts]
    return [message["id"] for message in sent]


async def busy(bus: Bus, *texts: str, **more: Any) -> list[str]:
    """Say something while the persona thinks about what came before; the ids of all."""
    first = await say(bus, "first", **more)
    await trio.sleep(1)
    return first + await say(bus, *texts, **more)


async def said(bus: Bus, room: str = "general") -> list[str]:
    """What personas are seen to have said."""
    history = await bus.commands.execute("chat/history", room=room)
    return [message["text"] for message in history["items"] if message["sender_type"] == "persona"]


async def stored(bus: Bus) -> list[dict[str, Any]]:
    return [record async for record in Records(bus, "chat_messages")]


async def exchanges(bus: Bus, who: str = HELPER) -> dict[str, str]:
    """Each memory's body, by its id."""
    return {memory["id"]: memory["body"] async for memory in Records(bus, "memories", user_id=who)}


async def is_once(bus: Bus, *personas: str) -> None:
    """Whoever is to answer a message has one claim on it and gives one reply, and remembers each once."""
    records = await stored(bus)
    due = {
        record["id"]: max(1, sum(f"@{name}" in record["text"] for name in personas))
        for record in records
        if record["sender_type"] == "human"
    }
    claims = [record for record in records if record["reply_to"]]
    shown = [record for record in claims if not is_note(record)]
    assert len({(record["sender_id"], record["reply_to"]) for record in claims}) == len(claims)
    assert Counter(record["reply_to"] for record in claims) == due
    assert Counter(id for record in shown for id in (record["reply_to"], *record["covers"])) == due
    kept = Counter([id for persona in personas for id in await exchanges(bus, persona)])
    replies = [record for record in shown if record["text"] not in REFUSALS.values()]
    assert kept == Counter(memory_id(reply["sender_id"], reply["reply_to"]) for reply in replies)


def nothing_is_open(world: World) -> bool:
    """Whether every mark has passed everything, and nobody is asked anything."""
    personas = [user for user in world.users._users.values() if isinstance(user, PersonaUser)]
    rooms = [progress for persona in personas for progress in persona.reading._rooms.values()]
    return not any(progress._open for progress in rooms) and len(world.users._questions) == 0


async def test_what_came_while_it_was_at_work_has_one_reply(world: World, autojump_clock: MockClock) -> None:
    async with world.running() as bus:
        ids = await busy(bus, *THREE)
        await trio.sleep(20)
        assert await said(bus) == ["re: first", "re: one\ntwo\nthree"]
        reply = next(one for one in await stored(bus) if one["reply_to"] == ids[-1])
        assert (reply["id"], reply["covers"]) == (reply_id(None, ids[-1]), ids[1:-1])
        notes = [one for one in await stored(bus) if is_note(one)]
        assert [(note["id"], note["reply_to"], note["answered_in"]) for note in notes] == [
            (reply_id(None, id), id, reply["id"]) for id in ids[1:-1]
        ]
        memories = await exchanges(bus)
        assert set(memories) == {memory_id(HELPER, ids[0]), memory_id(HELPER, ids[-1])}
        assert memories[memory_id(HELPER, ids[-1])] == (
            "operator: one\noperator: two\noperator: three\nhelper-ai: re: one\ntwo\nthree"
        )
        await is_once(bus, HELPER)
        assert nothing_is_open(world)
        assert world.persona().desk.waiting == 0
    async with world.running() as bus:
        await trio.sleep(100)
        assert len(world.script.thought) == 2, "what was answered is not thought about again"


async def test_what_calls_it_is_answered_together_too_and_lets_it_fall_back(
    world: World, autojump_clock: MockClock
) -> None:
    async with world.running() as bus:
        ids = await busy(bus, "@helper-ai one", "@helper-ai two")
        await trio.sleep(1)
        assert world.persona().desk._called == set(ids[1:])
        await trio.sleep(20)
        assert await said(bus) == ["re: first", "re: @helper-ai one\n@helper-ai two"]
        assert world.persona().desk._called == frozenset()
        assert {one["id"] for one in await stored(bus) if is_note(one)} == {reply_id(HELPER, ids[1])}
        await is_once(bus, HELPER)
        assert nothing_is_open(world)


async def test_more_than_one_reply_can_bear_has_several(world: World, autojump_clock: MockClock) -> None:
    world.script.takes = 1.0
    async with world.running() as bus:
        await busy(bus, *(f"m{number}" for number in range(MOST_COVERED + 3)), "x" * (MOST_TOGETHER + 1))
        await trio.sleep(30)
        assert len(await said(bus)) == 4
        await is_once(bus, HELPER)


# Apart.


async def test_what_two_humans_say_is_answered_apart(world: World, autojump_clock: MockClock) -> None:
    async with world.running() as bus:
        await busy(bus, "one")
        await humans(bus, 1)
        await say(bus, "two", sender="human-0")
        await trio.sleep(30)
        assert sorted(await said(bus)) == ["re: first", "re: one", "re: two"]
        await is_once(bus, HELPER)


async def test_what_is_said_in_two_rooms_is_answered_apart(world: World, autojump_clock: MockClock) -> None:
    async with world.running() as bus:
        await bus.commands.execute("room/create", name="den", members=["operator", HELPER])
        await busy(bus, "one")
        await say(bus, "two", room="den")
        await trio.sleep(30)
        assert await said(bus) == ["re: first", "re: one"]
        assert await said(bus, "den") == ["re: two"]
        await is_once(bus, HELPER)


async def test_what_calls_it_and_what_is_for_anybody_is_answered_apart(
    world: World, autojump_clock: MockClock
) -> None:
    async with world.running() as bus:
        await busy(bus, "one", "@helper-ai two")
        await trio.sleep(30)
        assert await said(bus) == ["re: first", "re: @helper-ai two", "re: one"]
        await is_once(bus, HELPER)


@pytest.mark.parametrize("place", range(3))
async def test_of_a_message_that_kills_the_others_are_answered(
    world: World, place: int, autojump_clock: MockClock
) -> None:
    texts = [*THREE]
    texts[place] = "poison"
    async with world.running() as bus:
        await busy(bus, *texts)
        await trio.sleep(50)
        answers = [REFUSALS["failed"] if text == "poison" else f"re: {text}" for text in texts]
        assert await said(bus) == ["re: first", *answers]
        assert world.persona().entity.status == "offline", "it is not frozen for it"
        await is_once(bus, HELPER)
        assert nothing_is_open(world)


async def test_what_takes_too_long_together_gets_what_each_gets_alone(
    world: World, autojump_clock: MockClock
) -> None:
    world.script.slow = {"one\ntwo": 1000.0, "two": 0.5}
    async with world.running() as bus:
        first = await say(bus, "first")
        await trio.sleep(1)
        first += await say(bus, "one")
        await trio.sleep(2)
        ids = first + await say(bus, "two")
        await trio.sleep(2 * ANSWER_WITHIN)
        assert await said(bus) == ["re: first", LATE, "re: two"]
        assert not any(map(is_note, await stored(bus)))
        assert [text for _, text in world.script.thought] == ["first", "one\ntwo", "two"]
        await is_once(bus, HELPER)
        assert nothing_is_open(world)
        assert set(await exchanges(bus)) == {memory_id(HELPER, id) for id in ids}


async def test_what_the_store_refuses_together_is_answered_apart(
    world: World, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with world.running() as bus:
        real = world.backend.apply

        async def locked(user_id: str | None, operations: Any, **named: Any) -> Any:
            if user_id is None and len(operations) > 1:
                raise StoreBusy("data/batch", "another process holds it")
            return await real(user_id, operations, **named)

        await busy(bus, *THREE)
        monkeypatch.setattr(world.backend, "apply", locked)
        await trio.sleep(60)
        assert await said(bus) == ["re: first", "re: one", "re: two", "re: three"]
        await is_once(bus, HELPER)
        assert nothing_is_open(world)


async def test_who_may_not_speak_leaves_each_of_them_open(world: World, autojump_clock: MockClock) -> None:
    async with world.running() as bus:
        await busy(bus, "one", "two")
        await trio.sleep(5)
        alone = {"member_ids": ["operator"]}
        await bus.commands.execute("data/update", collection="rooms", id="general", data=alone)
        await trio.sleep(100)
        assert await said(bus) == ["re: first"]
        assert not any(map(is_note, await stored(bus)))
        assert world.persona().desk.work == ()


# Where several could answer.


async def cast(bus: Bus) -> None:
    """Ada, who knows about knots, and Bo, in a hall."""
    for name, knows in (("ada", ["knots"]), ("bo", [])):
        await bus.commands.execute("user/create", type="persona", name=name, expertise=knows)
    await bus.commands.execute("room/create", name="hall", members=["operator", "ada", "bo"])
    await trio.sleep(1)


KNOTS = ("knots one", "knots two", "knots three")


async def test_what_is_covered_is_answered_by_nobody_else(world: World, autojump_clock: MockClock) -> None:
    async with world.running() as bus:
        await cast(bus)
        await busy(bus, *KNOTS, room="hall")
        await trio.sleep(200)
        assert {who for who, text in world.script.thought if "knots" in text} == {"ada"}
        assert "re: knots one\nknots two\nknots three" in await said(bus, "hall")
        await is_once(bus, "ada", "bo")
        assert nothing_is_open(world)
        assert len(world.script.thought) == len(await said(bus, "hall")), "nobody thinks in vain"


@pytest.mark.parametrize("slow", [TURN - 5.5, TURN + 5, 2 * TURN + 3, 1000.0])
async def test_whose_turn_is_over_is_helped_and_each_is_answered_once(
    world: World, slow: float, autojump_clock: MockClock
) -> None:
    world.script.slow = {"ada": slow}
    async with world.running() as bus:
        await cast(bus)
        await say(bus, *KNOTS, room="hall")
        await trio.sleep(200)
        await is_once(bus, "ada", "bo")
        assert nothing_is_open(world)


@pytest.mark.parametrize("when", [0.5, 5.5, 7.0, 10.5])
@pytest.mark.parametrize("how", ["user/freeze", "user/delete"])
async def test_who_is_taken_away_amid_them_is_replaced(
    world: World, how: str, when: float, autojump_clock: MockClock
) -> None:
    async with world.running() as bus:
        await cast(bus)
        await say(bus, *KNOTS, room="hall")
        await trio.sleep(when)
        await bus.commands.execute(how, id="ada")
        await trio.sleep(200)
        await is_once(bus, "ada", "bo")
        assert len(world.users._questions) == 0


async def test_who_fails_at_one_of_them_leaves_that_one_to_another(
    world: World, autojump_clock: MockClock
) -> None:
    async with world.running() as bus:
        await cast(bus)
        await say(bus, "knots first", "knots one", "knots poison", "knots three", room="hall")
        await trio.sleep(200)
        answers = await said(bus, "hall")
        assert answers.count(REFUSALS["failed"]) == 1
        assert sorted(answers)[1:] == ["re: knots first", "re: knots one", "re: knots three"]
        assert {"ada", "bo"} == {who for who, text in world.script.thought if text == "knots poison"}
        await is_once(bus, "ada", "bo")
        assert nothing_is_open(world)


async def test_a_note_calls_nobody_and_is_shown_to_nobody(world: World, autojump_clock: MockClock) -> None:
    async with world.running() as bus:
        # Its name is what every note begins with.
        await bus.commands.execute("user/create", type="persona", name="Answered")
        await bus.commands.execute("room/join", room="general", user="answered")
        await busy(bus, "@helper-ai one", "@helper-ai two", "@helper-ai three")
        await trio.sleep(100)
        assert any(map(is_note, await stored(bus)))
        await is_once(bus, HELPER, "answered")
        history = (await bus.commands.execute("chat/history", limit=4))["items"]
        assert len(history) == 4, "a note takes no place"
        assert not any(map(is_note, history))


# Over a restart.


@pytest.mark.parametrize("when", [0.5, 3.0, 6.0, 9.0, 10.0, 10.5, 12.0])
async def test_a_restart_at_any_time_leaves_one_answer_to_each(
    world: World, when: float, autojump_clock: MockClock
) -> None:
    async with world.running() as bus:
        await busy(bus, *THREE)
        await trio.sleep(when)
    async with world.running() as bus:
        await trio.sleep(100)
        await is_once(bus, HELPER)
        assert nothing_is_open(world)
        assert len(await said(bus)) <= 2


@pytest.mark.parametrize("called", ["", "@helper-ai "])
async def test_an_answer_without_its_marks_is_remembered_once_with_all_the_questions(
    world: World, called: str, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    texts = [f"{called}{text}" for text in THREE]
    async with world.running() as bus:
        await busy(bus, *texts)
        await trio.sleep(6)
        real = world.backend.apply

        async def stuck(user_id: str | None, *more: Any, **named: Any) -> Any:
            if user_id == HELPER:
                await trio.sleep_forever()
            return await real(user_id, *more, **named)

        with monkeypatch.context() as patch:
            patch.setattr(world.backend, "apply", stuck)
            await trio.sleep(10)
            assert len(await exchanges(bus)) == 1, "it has replied and not noted it"
            assert len(await said(bus)) == 2
    async with world.running() as bus:
        await trio.sleep(100)
        assert len(world.script.thought) == 2
        await is_once(bus, HELPER)
        asked, whole = "".join(f"operator: {text}\n" for text in texts), "\n".join(texts)
        assert f"{asked}helper-ai: re: {whole}" in (await exchanges(bus)).values()
        assert nothing_is_open(world)


@pytest.mark.parametrize("seed", range(16))
async def test_whatever_befalls_them_each_is_answered_once(
    world: World, seed: int, autojump_clock: MockClock
) -> None:
    chance = Random(seed)
    world.script.slow = {name: chance.choice([0.5, 5.0, 15.0, 25.0, 70.0]) for name in ("ada", "bo")}
    for life in range(4):
        async with world.running() as bus:
            if life == 0:
                await cast(bus)
                await humans(bus, 1, "hall")
            for _ in range(chance.randrange(12)):
                text = chance.choice(["knots", "@ada knots", "@bo @ada", "what", "poison"])
                sender = chance.choice(["operator", "operator", "human-0"])
                await say(bus, f"{text} {chance.random()}", room="hall", sender=sender)
                await trio.sleep(chance.choice([0.0, 0.0, 0.5, 3.0, 20.0]))
                await _befall(bus, chance)
    async with world.running() as bus:
        for name in ("ada", "bo"):
            await _thaw(bus, name)
        # Who fails too often is frozen, and thawed for the rest of it.
        for _ in range(20):
            await trio.sleep(200)
            for name in ("ada", "bo"):
                await _thaw(bus, name)
        assert nothing_is_open(world)
        await is_once(bus, "ada", "bo")


async def _befall(bus: Bus, chance: Random) -> None:
    name = chance.choice(["ada", "bo"])
    if chance.random() < 0.2 and not await _thaw(bus, name):
        await bus.commands.execute("user/freeze", id=name)


async def _thaw(bus: Bus, name: str) -> bool:
    """Whether it was frozen."""
    frozen = (await bus.commands.execute("user/get", id=name))["status"] == "frozen"
    if frozen:
        await bus.commands.execute("user/thaw", id=name)
    return bool(frozen)


# The command.


async def test_what_is_covered_must_be_there_and_be_claimed_by_the_one_reply(
    world: World, autojump_clock: MockClock
) -> None:
    async with world.running() as bus:
        await bus.commands.execute("user/freeze", id=HELPER)
        await humans(bus, 1)
        await bus.commands.execute("room/create", name="den", members=["operator"])
        one, two, three = await say(bus, *THREE)
        [elsewhere] = await say(bus, "four", room="den")
        given = {"room": "general", "sender": "human-0", "text": "all of it", "reply_to": three}
        for wrong, match in (
            ({"covers": [one], "id": None}, r"parameter 'id': None is not the id of the one reply"),
            (
                {"covers": [one], "id": reply_id(None, two)},
                "parameter 'id': .* is not the id of the one reply",
            ),
            ({"covers": [one], "reply_to": None}, "parameter 'id': .* the one reply to None"),
            ({"covers": [one, one]}, "parameter 'covers': it covers a message twice"),
            ({"covers": [three]}, "parameter 'covers': it covers a message twice"),
            ({"covers": [elsewhere]}, "parameter 'covers': there is no .* in room 'general'"),
            ({"covers": ["nothing"]}, "parameter 'covers': there is no 'nothing' in room 'general'"),
        ):
            with pytest.raises(CommandRejected, match=match):
                await bus.commands.execute("chat/send", **{"id": reply_id(None, three), **given, **wrong})
        own = reply_id("human-0", three)
        reply = await bus.commands.execute("chat/send", id=own, covers=[one, two], **given)
        assert (reply["id"], reply["covers"]) == (own, [one, two])
        assert {note["id"] for note in await stored(bus) if is_note(note)} == {
            reply_id("human-0", one),
            reply_id("human-0", two),
        }
        await bus.commands.execute("chat/send", **given | {"id": reply_id(None, one), "reply_to": one})
        before = len(await stored(bus))
        with pytest.raises(Conflict, match="exists already"):
            await bus.commands.execute("chat/send", id=reply_id(None, three), covers=[two, one], **given)
        assert len(await stored(bus)) == before, "all of it or nothing"
