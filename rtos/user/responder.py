"""Responders: who answers a question from what was found about it.

A responder gets a question and the passages that a search found, and gives one
reply. The default one needs no model and no network: it quotes. One that asks a
model is another class of the same shape.

Law: every sentence of `RecallResponder` about the matter is a quotation, with its
source beside it. Where nothing known covers the question, it says so.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Protocol

import attrs
import trio

from rtos.user.ranking import KNOWN, best_first, judge, look_at, want
from rtos.user.words import terms

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rtos.user.passages import Passage
    from rtos.user.ranking import Look, Ranked

MAX_QUOTES: Final = 3
"""The most passages in one reply."""
_CLOSE: Final = 0.8
"""The share of the best score from which on another passage is quoted too."""


@attrs.frozen(kw_only=True)
class Question:
    """What somebody wants to know."""

    text: str
    asker: str = ""
    """The display name of who asks; empty if unknown."""
    persona: str = ""
    """The display name of who answers."""


@attrs.frozen
class Reply:
    """An answer, and where it comes from; without sources, nothing was known."""

    text: str
    sources: tuple[str, ...] = ()


class Responder(Protocol):
    """Whoever can answer a question from passages."""

    async def respond(self, question: Question, passages: Sequence[Passage]) -> Reply:
        """Answer, or say plainly that there is no answer.

        Args:
          question: What is asked.
          passages: What a search found, at most a few dozen, in any order.

        A checkpoint. Cancelling it leaves nothing behind.
        """
        ...


class RecallResponder:
    """Answers with the best of what is known, word for word."""

    async def respond(self, question: Question, passages: Sequence[Passage]) -> Reply:
        """Quote the passages that answer best, with their sources.

        Always a checkpoint. Cancelling it leaves nothing behind.
        """
        await trio.lowlevel.checkpoint()
        looks: list[Look] = []
        # One passage a step: together they would hold up everything else for several milliseconds.
        for passage in passages:
            looks.append(look_at(passage))
            await trio.lowlevel.checkpoint()
        wanted = want(question.text, looks)
        ranked: list[Ranked] = []
        for look in looks:
            ranked.append(judge(look, wanted))
            await trio.lowlevel.checkpoint()
        chosen = choose(best_first(ranked))
        if not chosen:
            return Reply(text=_ignorance(question.text))
        quotes = [_quoted(one.passage) for one in chosen]
        opening = "I know this about it:" if len(quotes) > 1 else "I know this:"
        return Reply(
            text="\n\n".join([opening, *quotes]),
            sources=tuple(dict.fromkeys(one.passage.source for one in chosen)),
        )


def choose(ranked: Sequence[Ranked]) -> list[Ranked]:
    """The passages worth quoting: the best that is about the question, and what comes close to it."""
    about = [one for one in ranked if one.coverage >= KNOWN]
    return [one for one in about if one.score >= _CLOSE * about[0].score][:MAX_QUOTES]


def _quoted(passage: Passage) -> str:
    lines = "\n".join(f"> {line}".rstrip() for line in passage.text.split("\n"))
    nearest = passage.heading.rpartition(" > ")[2]
    under = f", under {nearest!r}" if nearest else ""
    return f"{lines}\n({passage.source}{under})"


def _ignorance(question: str) -> str:
    asked = ", ".join(repr(term) for term in terms(question)[:5])
    return "I know nothing about that" + (f": I have looked for {asked}." if asked else ".")
