"""A room of several personas: one answers for all, whatever becomes of who was asked first."""

from __future__ import annotations

from collections import Counter
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import attrs
import pytest
import trio
from living import Script, World, humans

from rtos.errors import StoreBusy
from rtos.user.claims import memory_id, reply_id
from rtos.user.coordination import LONGEST_TALK
from rtos.user.hearing import ANSWER_WITHIN
from rtos.user.lives import TRIES
from rtos.user.marks import UNSAVED
from rtos.user.persona import PersonaUser
from rtos.user.questions import TURN
from rtos.user.responder import Reply
from rtos.user.servicing import LATE, REFUSALS

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence
    from pathlib import Path

    from trio.testing import MockClock

    from rtos.bus import Bus
    from rtos.user.passages import Passage
    from rtos.user.responder import Question

NAMES = ("ada", "bo", "cy")


class Cast(Script):
    """Each persona thinks for as long as it is told, says its own name, and fails if it is to."""

    def __init__(self) -> None:
        super().__init__()
        self.slow: dict[str, float] = {}
        self.failing: set[str] = set()
        self.once: set[str] = set()
        self.thought: list[tuple[str, str, float]] = []
        self.thinking = trio.Event()

    async def respond(self, question: Question, passages: Sequence[Passage]) -> Reply:
        self.thought.append((question.persona, question.text, trio.current_time()))
        self.thinking.set()
        if question.persona in self.failing | self.once:
            self.once.discard(question.persona)
            raise ValueError("no words")
        await trio.sleep(self.slow.get(question.persona, self.takes))
        return Reply(f"{question.persona}: {question.text}")

    def who(self) -> list[str]:
        return [name for name, _, _ in self.thought]


@pytest.fixture
def world(tmp_path: Path) -> World:
    world = World(tmp_path)
    world.script = Cast()
    return world


@asynccontextmanager
async def room(world: World, **expertise: list[str]) -> AsyncIterator[Bus]:
    """A human and three personas."""
    async with world.running() as bus:
        for name in NAMES:
            given = expertise.get(name, [])
            await bus.commands.execute("user/create", type="persona", name=name, expertise=given)
        await bus.commands.execute("room/create", name="hall", members=["operator", *NAMES])
        await trio.sleep(1)
        yield bus


async def say(bus: Bus, text: str, sender: str = "operator") -> dict[str, Any]:
    sent: dict[str, Any] = await bus.commands.execute("chat/send", room="hall", sender=sender, text=text)
    return sent


async def answers(bus: Bus) -> list[tuple[str, str]]:
    history = await bus.commands.execute("chat/history", room="hall")
    return [
        (said["sender_id"], said["text"]) for said in history["items"] if said["sender_type"] == "persona"
    ]


async def first_asked(world: World) -> str:
    """Who thinks about the last message, as soon as one does."""
    await world.script.thinking.wait()
    return world.script.who()[-1]


def open_messages(world: World) -> int:
    """What a persona of the hall has not done with, and what nobody has answered for all."""
    held = [world.persona(name).reading._rooms["hall"]._open for name in NAMES if name in world.users._users]
    return sum(map(len, held)) + len(world.users._questions)


# One answers.


async def test_of_three_personas_one_answers_a_human(world: World, autojump_clock: MockClock) -> None:
    async with room(world) as bus:
        for number in range(20):
            await say(bus, f"question {number}")
            await trio.sleep(2)
        said = await answers(bus)
        assert [text.split(": ")[1] for _, text in said] == [f"question {number}" for number in range(20)]
        assert len(world.script.thought) == 20, "nobody thinks in vain"
        assert set(Counter(sender for sender, _ in said)) == set(NAMES), "the work is shared"
        assert open_messages(world) == 0


async def test_everybody_who_is_called_answers_and_nobody_else(
    world: World, autojump_clock: MockClock
) -> None:
    async with room(world) as bus:
        sent = await say(bus, "@ada and @cy, are you there?")
        await trio.sleep(10)
        history = (await bus.commands.execute("chat/history", room="hall"))["items"][1:]
        assert {message["sender_id"]: message["id"] for message in history} == {
            name: reply_id(name, sent["id"]) for name in ("ada", "cy")
        }
        assert open_messages(world) == 0


async def test_the_one_that_knows_about_it_answers(world: World, autojump_clock: MockClock) -> None:
    async with room(world, bo=["knots"], cy=["sails"]) as bus:
        for text in ("which knots hold?", "which sails tear?", "knots again"):
            await say(bus, text)
            await trio.sleep(2)
        assert [sender for sender, _ in await answers(bus)] == ["bo", "cy", "bo"]


@pytest.mark.parametrize("label", ["tired", "overwhelmed"])
async def test_who_is_spent_stands_back(world: World, label: str, autojump_clock: MockClock) -> None:
    async with room(world) as bus:
        for name in ("ada", "cy"):
            persona = world.persona(name)
            change = {"energy": 0.2} if label == "tired" else {"load": 0.9}
            persona.feelings.state = attrs.evolve(persona.feeling, **change)
            assert persona.feeling.label == label
        for number in range(10):
            await say(bus, f"question {number}")
            await trio.sleep(2)
        assert {sender for sender, _ in await answers(bus)} == {"bo"}


async def test_where_all_are_overwhelmed_one_answers_all_the_same(
    world: World, autojump_clock: MockClock
) -> None:
    async with room(world) as bus:
        for name in NAMES:
            persona = world.persona(name)
            persona.feelings.state = attrs.evolve(persona.feeling, load=0.9)
        await say(bus, "hello")
        await trio.sleep(ANSWER_WITHIN)
        assert len(await answers(bus)) == 1


async def test_many_messages_at_once_are_shared_out(world: World, autojump_clock: MockClock) -> None:
    world.script.takes = 4.0
    async with room(world) as bus:
        for number, sender in enumerate(await humans(bus, 12, "hall")):
            await say(bus, f"question {number}", sender)
        await trio.sleep(17)
        # One alone would need 48 seconds, and refuse the rest.
        counts = Counter(sender for sender, _ in await answers(bus))
        assert sum(counts.values()) == 12
        assert max(counts.values()) <= 5, "who has much to do is asked less"


async def test_who_is_called_in_vain_is_answered_for_by_nobody(
    world: World, autojump_clock: MockClock
) -> None:
    async with room(world) as bus:
        await bus.commands.execute("user/freeze", id="ada")
        await say(bus, "what now, @ada?")
        await trio.sleep(100)
        assert world.script.thought == []
        await bus.commands.execute("user/thaw", id="ada")
        await trio.sleep(5)
        assert [sender for sender, _ in await answers(bus)] == ["ada"]


# The one who was asked cannot.


@pytest.mark.parametrize("how", ["user/freeze", "user/delete"])
async def test_who_is_taken_away_is_replaced_at_once(
    world: World, how: str, autojump_clock: MockClock
) -> None:
    world.script.takes = 5.0
    async with room(world) as bus:
        await say(bus, "hello")
        first = await first_asked(world)
        gone = trio.current_time()
        await bus.commands.execute(how, id=first)
        await trio.sleep(5.5)
        second, text, began = world.script.thought[1]
        assert (began - gone, text) == (pytest.approx(0.0, abs=0.01), "hello")
        assert await answers(bus) == [(second, f"{second}: hello")], "and no farewell"
        await bus.commands.execute(how, id=second)
        await trio.sleep(100)
        assert len(await answers(bus)) == 1
        assert open_messages(world) == 0


async def test_what_waited_for_one_that_is_frozen_is_answered_by_others(
    world: World, autojump_clock: MockClock
) -> None:
    world.script.takes = 5.0
    async with room(world, ada=["knots"]) as bus:
        for number, sender in enumerate(await humans(bus, 3, "hall")):
            await say(bus, f"knots {number}", sender)
        await trio.sleep(1)
        asked = world.persona("ada").desk.waiting + 1
        assert asked > 1
        await bus.commands.execute("user/freeze", id="ada")
        await trio.sleep(30)
        said = await answers(bus)
        assert sorted(text.split(": ")[1] for _, text in said) == ["knots 0", "knots 1", "knots 2"]
        assert {sender for sender, _ in said} <= {"bo", "cy"}
        await bus.commands.execute("user/thaw", id="ada")
        await trio.sleep(100)
        assert len(await answers(bus)) == 3, "what others have answered is not answered again"
        assert open_messages(world) == 0


async def test_where_all_are_frozen_it_waits_for_the_first_to_be_thawed(
    world: World, autojump_clock: MockClock
) -> None:
    world.script.takes = 5.0
    async with room(world) as bus:
        await say(bus, "hello")
        await trio.sleep(1)
        for name in NAMES:
            await bus.commands.execute("user/freeze", id=name)
        await trio.sleep(1000)
        assert await answers(bus) == []
        await bus.commands.execute("user/thaw", id="bo")
        await trio.sleep(6)
        assert await answers(bus) == [("bo", "bo: hello")]
        for name in ("ada", "cy"):
            await bus.commands.execute("user/thaw", id=name)
        await trio.sleep(100)
        assert len(await answers(bus)) == 1
        assert open_messages(world) == 0


async def test_where_all_are_deleted_the_last_says_so(world: World, autojump_clock: MockClock) -> None:
    world.script.takes = 5.0
    async with room(world) as bus:
        sent = await say(bus, "hello")
        gone: list[str] = []
        for _ in NAMES:
            await trio.sleep(1)
            gone.append(world.script.who()[-1])
            await bus.commands.execute("user/delete", id=gone[-1])
        await trio.sleep(100)
        assert sorted(gone) == list(NAMES)
        [_, said] = (await bus.commands.execute("chat/history", room="hall"))["items"]
        assert (said["sender_id"], said["id"]) == (gone[-1], reply_id(None, sent["id"]))
        assert "I was deleted before I could answer this" in said["text"]


async def test_who_fails_is_replaced_at_once(world: World, autojump_clock: MockClock) -> None:
    world.script.failing = {"ada", "bo"}
    async with room(world, ada=["knots"]) as bus:
        await say(bus, "knots?")
        await trio.sleep(5)
        assert world.script.who()[0] == "ada"
        assert world.script.who()[-1] == "cy"
        assert await answers(bus) == [("cy", "cy: knots?")]
        assert world.script.thought[-1][2] == world.script.thought[0][2], "without a wait"
        await trio.sleep(1000)
        assert Counter(world.script.who())["ada"] == 1, "it is not asked again"
        assert open_messages(world) == 0


async def test_a_message_at_which_all_fail_is_refused_once_by_the_last(
    world: World, autojump_clock: MockClock
) -> None:
    world.script.failing = set(NAMES)
    async with room(world) as bus:
        await say(bus, "poison")
        await trio.sleep(ANSWER_WITHIN)
        counts = Counter(world.script.who())
        last = world.script.who()[-1]
        assert counts == {name: TRIES if name == last else 1 for name in NAMES}
        assert await answers(bus) == [(last, REFUSALS["failed"])]
        await trio.sleep(1000)
        assert len(world.script.thought) == TRIES + 2
        assert [world.persona(name).entity.status for name in NAMES] == ["offline"] * 3
        assert open_messages(world) == 0


@pytest.mark.parametrize("how", ["fails", "cannot read"])
async def test_who_failed_is_asked_again_where_nobody_else_is_left(
    world: World, how: str, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.script.takes = 5.0
    async with room(world, ada=["knots"]) as bus:
        if how == "fails":
            world.script.once = {"ada"}
        else:
            monkeypatch.setattr(world.backend, "search", locked_once(world.backend.search))
        for text in ("knots one", "knots two"):
            await say(bus, text)
        await trio.sleep(1)
        # It has gone on with the second one, so it has not forgotten of the first.
        for name in ("bo", "cy"):
            await bus.commands.execute("user/freeze", id=name)
        await trio.sleep(TURN / 2)
        assert sorted(await answers(bus)) == [("ada", "ada: knots one"), ("ada", "ada: knots two")]
        assert open_messages(world) == 0


def locked_once(real: Any) -> Any:
    refused: list[str] = []

    async def search(user_id: str | None, *more: Any, **named: Any) -> Any:
        if user_id == "ada" and not refused:
            refused.append(user_id)
            raise StoreBusy("data/search", "another process holds it")
        return await real(user_id, *more, **named)

    return search


async def test_nobody_refuses_while_another_one_still_thinks(world: World, autojump_clock: MockClock) -> None:
    world.script.slow = {"ada": 45.0}
    world.script.failing = {"bo", "cy"}
    async with room(world, ada=["knots"]) as bus:
        await say(bus, "knots?")
        await trio.sleep(TURN + 1)
        assert sorted(world.script.who()) == ["ada", "bo", "cy"], "the second failed, and so did the third"
        await trio.sleep(100)
        assert await answers(bus) == [("ada", "ada: knots?")]
        assert open_messages(world) == 0


async def test_whose_memory_cannot_be_read_is_replaced(
    world: World, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with room(world, ada=["knots"]) as bus:
        monkeypatch.setattr(world.backend, "search", locked_once(world.backend.search))
        await say(bus, "knots?")
        await trio.sleep(5)
        [(sender, text)] = await answers(bus)
        assert sender in ("bo", "cy")
        assert text == f"{sender}: knots?"


async def test_who_sheds_it_is_replaced_and_a_human_is_refused_by_the_last(
    world: World, autojump_clock: MockClock
) -> None:
    world.script.takes = 40.0
    async with room(world) as bus:
        with bus.events.subscribe("inbox:shed") as shed:
            for number, sender in enumerate(await humans(bus, 9, "hall")):
                await say(bus, f"question {number}", sender)
            await trio.sleep(200)
            said = await answers(bus)
            assert shed._receive.statistics().current_buffer_used > 0
        sent = (await bus.commands.execute("chat/history", room="hall"))["items"]
        replied = Counter(message["reply_to"] for message in sent if message["reply_to"])
        assert replied == Counter(message["id"] for message in sent if message["sender_type"] == "human")
        answered = [text for _, text in said if "question" in text]
        assert len(answered) == 3, "each has time for one"
        assert all(text in (REFUSALS["busy"], LATE) for _, text in said if "question" not in text)
        assert open_messages(world) == 0


async def test_one_that_takes_its_time_is_helped_when_its_turn_is_over(
    world: World, autojump_clock: MockClock
) -> None:
    world.script.slow = {"ada": 45.0}
    async with room(world, ada=["knots"]) as bus:
        await say(bus, "knots?")
        await trio.sleep(TURN + 5)
        (first, _, began), (second, _, helped) = world.script.thought
        assert (first, helped - began) == ("ada", pytest.approx(TURN, abs=0.01))
        await trio.sleep(100)
        # The first reply that is stored is the reply; the other one finds it there.
        assert await answers(bus) == [(second, f"{second}: knots?")]
        assert len(world.script.thought) == 2
        memories = [await kept(bus, name) for name in NAMES]
        assert sum(map(len, memories)) == 1
        assert open_messages(world) == 0
        await trio.sleep(80_000)  # until all are rested
        assert bus.scheduler.statistics().timers == 1, "when the memory of it fades"


async def kept(bus: Bus, name: str) -> list[dict[str, Any]]:
    found = await bus.commands.execute("data/list", collection="memories", user_id=name)
    items: list[dict[str, Any]] = found["items"]
    return items


async def test_where_nobody_finds_an_answer_one_says_so_in_time(
    world: World, autojump_clock: MockClock
) -> None:
    world.script.takes = 1e6
    async with room(world) as bus:
        for name in ("di", "eve"):
            await bus.commands.execute("user/create", type="persona", name=name)
            await bus.commands.execute("room/join", room="hall", user=name)
        with bus.events.subscribe("data:chat_messages:created") as told:
            await say(bus, "hello")
            asked = trio.current_time()
            await told.receive()
            await trio.sleep(1)
            [question] = world.users._questions._open.values()
            regret = (await told.receive()).payload["record"]
            assert trio.current_time() - asked == pytest.approx(ANSWER_WITHIN, abs=0.01)
        assert regret["text"] == LATE
        assert world.script.who() == question.asked
        assert len(question.asked) == ANSWER_WITHIN / TURN, "nobody is asked when it is too late"
        await trio.sleep(1000)
        assert len(await answers(bus)) == 1
        assert open_messages(world) == 0


@pytest.mark.parametrize("when", [5.0, 25.0, 45.0, 59.0])
@pytest.mark.parametrize("how", ["freeze", "fail", "delete"])
async def test_a_human_has_a_reply_within_the_bound_whatever_becomes_of_who_was_asked(
    world: World, how: str, when: float, autojump_clock: MockClock
) -> None:
    world.script.slow = {"ada": 1e6, "bo": 1e6, "cy": 50.0}
    async with room(world, ada=["knots"]) as bus:
        if how == "fail":
            world.script.slow["ada"] = when
            real = world.script.respond

            async def respond(question: Question, passages: Sequence[Passage]) -> Reply:
                reply = await real(question, passages)
                if question.persona == "ada":
                    raise ValueError("no words")
                return reply

            world.script.respond = respond  # type: ignore[method-assign]
        await say(bus, "knots?")
        await trio.sleep(when)
        if how != "fail":
            await bus.commands.execute(f"user/{how}", id="ada")
        await trio.sleep(ANSWER_WITHIN - when + 0.1)
        assert len(await answers(bus)) == 1
        await trio.sleep(1000)
        assert len(await answers(bus)) == 1


async def test_a_room_that_is_gone_is_answered_by_nobody(world: World, autojump_clock: MockClock) -> None:
    async with room(world) as bus:
        await say(bus, "hello")
        await first_asked(world)
        await bus.commands.execute("data/delete", collection="rooms", id="hall")
        await trio.sleep(200)
        assert len(world.script.thought) == 1, "nobody else thinks about it"
        assert len(world.users._questions) == 0


async def test_who_leaves_the_room_is_replaced(world: World, autojump_clock: MockClock) -> None:
    async with room(world, ada=["knots"]) as bus:
        await say(bus, "knots?")
        await first_asked(world)
        members = {"member_ids": ["operator", "bo", "cy"]}
        await bus.commands.execute("data/update", collection="rooms", id="hall", data=members)
        await trio.sleep(10)
        [(sender, text)] = await answers(bus)
        assert sender in ("bo", "cy")
        assert text == f"{sender}: knots?"


# Over a restart.


@pytest.mark.parametrize("when", [0.0, 0.5, 1.5, TURN + 0.5, TURN + 1.5])
@pytest.mark.parametrize("spent", ["asked", "others", "nobody"])
async def test_a_restart_at_any_time_leaves_one_answer(
    world: World, when: float, spent: str, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.script.slow = {"ada": 1000.0}
    if when < TURN:
        world.script.slow = {}
    async with room(world, ada=["knots"]) as bus:
        await say(bus, "knots?")
        await trio.sleep(when)
    # Moods are not what they were, and another one may be asked now.
    tired = {"asked": ["ada"], "others": ["bo", "cy"], "nobody": []}[spent]
    async with world.running() as bus:
        for name in tired:
            persona = world.persona(name)
            persona.feelings.state = attrs.evolve(persona.feeling, energy=0.1, load=0.9)
        await trio.sleep(100)
        assert len(await answers(bus)) == 1
        thought = len(world.script.thought)
    served = []

    async def counted(persona: PersonaUser) -> None:
        served.append(persona.id)

    for again in range(2):
        if again:
            monkeypatch.setattr(PersonaUser, "attend_all", counted)
        async with world.running() as bus:
            await trio.sleep(100)
            assert len(await answers(bus)) == 1
            assert open_messages(world) == 0
            assert len(world.script.thought) == thought, "what was answered is not thought about again"
            memories = [len(await kept(bus, name)) for name in NAMES]
            [(sender, _)] = await answers(bus)
            assert memories == [int(name == sender) for name in NAMES]
    assert served == [], "what is done wakes nobody"


async def test_who_stands_by_stores_how_far_it_has_come(
    world: World, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.script.takes = 0.1
    async with room(world, ada=["knots"]) as bus:
        for number in range(150):
            await say(bus, f"knots {number}")
            await trio.sleep(1)
    told: Counter[str] = Counter()
    real = PersonaUser.hear

    def counting(persona: PersonaUser, *given: Any, **named: Any) -> None:
        told[persona.id] += 1
        real(persona, *given, **named)

    monkeypatch.setattr(PersonaUser, "hear", counting)
    async with world.running():
        await trio.sleep(10)
        assert len(world.script.who()) == 150
    # Questions and answers are 300, of which only the last are told again.
    assert 0 < max(told.values()) <= UNSAVED + 2


async def test_an_answer_without_a_mark_is_remembered_by_who_gave_it_alone(
    world: World, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with room(world, ada=["knots"]) as bus:
        real = world.backend.apply

        async def stuck(user_id: str | None, *more: Any, **named: Any) -> Any:
            if user_id in NAMES:
                await trio.sleep_forever()
            return await real(user_id, *more, **named)

        with monkeypatch.context() as patch:
            patch.setattr(world.backend, "apply", stuck)
            sent = await say(bus, "knots?")
            await trio.sleep(5)
            assert await answers(bus) == [("ada", "ada: knots?")]
    async with world.running() as bus:
        # In the meantime another one has become the better choice.
        world.persona("ada").feelings.state = attrs.evolve(world.persona("ada").feeling, load=0.9)
        await trio.sleep(100)
        assert len(await answers(bus)) == 1
        assert world.script.who() == ["ada"]
        ids = {name: [memory["id"] for memory in await kept(bus, name)] for name in NAMES}
        assert ids == {"ada": [memory_id("ada", sent["id"])], "bo": [], "cy": []}
        assert open_messages(world) == 0


async def test_what_was_asked_while_nobody_ran_is_shared_out(world: World, autojump_clock: MockClock) -> None:
    world.script.takes = 1000.0
    async with room(world, ada=["knots"]) as bus:
        for number, sender in enumerate(await humans(bus, 12, "hall")):
            await say(bus, f"knots {number}", sender)
    world.script.takes = 4.0
    async with world.running() as bus:
        await trio.sleep(ANSWER_WITHIN)
        said = await answers(bus)
        assert {text.split(": ")[1] for _, text in said} == {f"knots {number}" for number in range(12)}
        assert len(said) == 12
        assert len({sender for sender, _ in said}) > 1, "who knows about it has not time for all"


# Among personas.


class Chatty(Cast):
    """Calls another one at the beginning of whatever it says."""

    def __init__(self) -> None:
        super().__init__()
        self.others = {"ada": "bo", "bo": "cy", "cy": "ada"}

    async def respond(self, question: Question, passages: Sequence[Passage]) -> Reply:
        await super().respond(question, passages)
        return Reply(f"@{self.others[question.persona]} and what do you say?")


async def test_talk_in_circles_dies_out(world: World, autojump_clock: MockClock) -> None:
    world.script = Chatty()
    async with room(world) as bus:
        await say(bus, "@ada hello")
        await trio.sleep(100)
        said = [sender for sender, _ in await answers(bus)]
        assert said == (["ada", "bo", "cy"] * LONGEST_TALK)[: LONGEST_TALK - 1], "a human's own has depth 0"
        await trio.sleep(10_000)
        assert len(await answers(bus)) == LONGEST_TALK - 1
        # One that begins by itself.
        await say(bus, "@bo psst", sender="ada")
        await trio.sleep(10_000)
        assert len(await answers(bus)) == 2 * LONGEST_TALK - 1
        assert open_messages(world) == 0


async def test_a_human_who_calls_two_that_call_each_other_is_not_drowned(
    world: World, autojump_clock: MockClock
) -> None:
    world.script = Chatty()
    world.script.others = {"ada": "bo", "bo": "ada", "cy": "cy"}
    async with room(world) as bus:
        await say(bus, "@ada @bo hello")
        await trio.sleep(10_000)
        assert len(await answers(bus)) == 2 * (LONGEST_TALK - 1), "each reply begins one talk"


async def test_who_has_more_ahead_than_it_can_bear_is_overwhelmed_until_it_has_worked_it_off(
    world: World, autojump_clock: MockClock
) -> None:
    world.script.slow = {"ada": 15.0}
    async with room(world) as bus:
        await say(bus, "@ada one")
        await trio.sleep(20)
        for number in range(4):
            await say(bus, f"@ada {number}")
        await trio.sleep(1)
        assert world.persona("ada").feeling.label == "overwhelmed"
        shown = await bus.commands.execute("user/get", id="ada")
        assert shown["label"] == "overwhelmed"
        for number in range(5):
            await say(bus, f"question {number}")
            await trio.sleep(2)
        assert "ada" not in [sender for sender, _ in (await answers(bus))[1:]]
        await trio.sleep(ANSWER_WITHIN)
        assert world.persona("ada").feeling.label != "overwhelmed"
        assert world.persona("ada").feeling.load == 0.0
