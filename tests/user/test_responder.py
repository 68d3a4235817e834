"""The responder, asked about a real document: what it quotes, and what it does not know."""

from pathlib import Path

import pytest
import trio

from rtos.user.passages import Passage, split
from rtos.user.responder import MAX_QUOTES, Question, RecallResponder, Reply, Responder, choose
from rtos.user.words import stem, terms

SEED = Path(__file__).parent.parent / "data" / "user-storage-refactoring.md"
PASSAGES = split(SEED.read_bytes(), SEED.name)


def candidates(question: str, limit: int = 30) -> list[Passage]:
    """What a full-text search for any of the words would find: the most words first."""
    asked = {stem(word) for word in terms(question)}
    found = []
    for passage in PASSAGES:
        words = {stem(word) for word in terms(f"{passage.heading} {passage.text}")}
        if asked & words:
            found.append((len(asked & words), passage))
    return [passage for _, passage in sorted(found, key=lambda pair: -pair[0])][:limit]


async def ask(question: str) -> Reply:
    responder: Responder = RecallResponder()
    return await responder.respond(Question(text=question), candidates(question))


async def test_where_a_database_lives() -> None:
    reply = await ask("where does a user's database live?")
    first = reply.text.split("\n\n")[1]
    assert "`.continuum/users/{userId}/data/longterm.db`" in first
    assert reply.sources[0] == "user-storage-refactoring.md, lines 349-352"
    assert "(user-storage-refactoring.md, lines 349-352, under " in first


@pytest.mark.parametrize(
    ("question", "quoted", "line"),
    [
        ("where is the database of a user?", ".continuum/users/{userId}/data/longterm.db", 349),
        ("where are preferences stored?", "preferences.json", 72),
        ("where is the activity log?", "activity.log", 72),
        ("what is the goal?", "Eliminate duplication between HumanUser and PersonaUser", 3),
        ("which managers should be deleted?", "IUserStateManager.ts", 109),
        ("which files should I delete?", "SQLiteUserStorage.ts", 109),
        ("what is the old path of a persona?", ".continuum/personas/{userId}/data/longterm.db", 248),
        ("what is the new path?", ".continuum/users/{userId}/data/longterm.db", 248),
        ("how many unit tests pass for the path utility?", "12 unit tests passing", 93),
        ("how many lines does PersonaUser have?", "1262 lines", 7),
        ("why are managers wrong?", "Main-thread bloat", 22),
        ("what should PersonaUser keep?", "PersonaGenome", 238),
        ("what are the next steps?", "Refactor BaseUser to use Commands.execute", 424),
        ("what is the name of the database?", "longterm.db", 349),
        ("how does the fallback work?", "Fall back to legacy persona path", 251),
        ("how do I find setTimeout usage?", 'grep -r "setTimeout" daemons/', 356),
        ("how do I verify that personas initialize correctly?", "./jtag data/list", 393),
    ],
)
async def test_questions_about_the_document(question: str, quoted: str, line: int) -> None:
    reply = await ask(question)
    first = reply.text.split("\n\n(")[0]
    assert quoted in first
    assert reply.sources[0].removeprefix("user-storage-refactoring.md, line").strip("s ").split("-")[
        0
    ] == str(line)


@pytest.mark.parametrize(
    "question",
    [
        "What is the capital of France?",
        "how many moons does Jupiter have?",
        "how do I bake a chocolate cake?",
        "where is my car parked?",
        "who is the president of the United States?",
        "what is the weather like in the user's town?",
        "hello",
        "who are you?",
        "?",
        "",
    ],
)
async def test_what_is_not_known_is_said_plainly(question: str) -> None:
    reply = await ask(question)
    assert reply.text.startswith("I know nothing about that")
    assert reply.sources == ()


async def test_it_says_what_it_has_looked_for() -> None:
    reply = await RecallResponder().respond(Question(text="how many moons does Jupiter have?"), [])
    assert reply.text == "I know nothing about that: I have looked for 'moons', 'jupiter'."


async def test_the_form_of_a_reply() -> None:
    known = Passage(id="1", text="**Goal**:\n\nto win", source="n.md, lines 3-5", heading="Book > Aims")
    reply = await RecallResponder().respond(Question(text="what is the goal?"), [known])
    assert reply == Reply(
        text="I know this:\n\n> **Goal**:\n>\n> to win\n(n.md, lines 3-5, under 'Aims')",
        sources=("n.md, lines 3-5",),
    )


async def test_a_reply_quotes_a_few_and_names_all_their_sources() -> None:
    known = [Passage(id=str(n), text=f"goal {n}", source=f"n.md, line {n}", heading="") for n in range(9)]
    reply = await RecallResponder().respond(Question(text="goal?"), known)
    assert len(reply.sources) == MAX_QUOTES
    assert reply.text.startswith("I know this about it:\n\n> goal 0\n(n.md, line 0)")


def test_nothing_ranked_nothing_chosen() -> None:
    assert choose([]) == []


async def test_every_passage_is_a_step_of_its_own_and_can_be_cancelled() -> None:
    turns = 0

    async def beside() -> None:
        nonlocal turns
        while True:
            turns += 1
            await trio.lowlevel.checkpoint()

    question = "where does a user's database live?"
    async with trio.open_nursery() as nursery:
        nursery.start_soon(beside)
        await RecallResponder().respond(Question(text=question), candidates(question))
        nursery.cancel_scope.cancel()
    assert turns >= len(candidates(question))
    with trio.CancelScope() as scope:
        scope.cancel()
        await RecallResponder().respond(Question(text=question), [])
    assert scope.cancelled_caught
