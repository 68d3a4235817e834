"""Appraisal: which of the `APPRAISALS` an event means to a persona.

Pure: words in, names out. What a name does to a mood is in `rtos.user.temperament`.

English, by table and not by understanding. The words of praise and blame are also
said of other things, so what counts is where they stand: "wrong" by itself, "that is
wrong" and "wrong answer" are blame, "the wrong door" is not. Whoever errs here had
better miss something: that leaves a persona calm, the other thing would upset it.

Law: only what a human says, and only its first `LOOKED_AT` characters, judges; what is
quoted, asked or supposed does not, and who praises and blames at once does neither.
"""

from __future__ import annotations

import re
from itertools import chain
from types import MappingProxyType
from typing import TYPE_CHECKING, Final, Literal

import attrs

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from rtos.user.inbox import InboxItem

Verdict = Literal["praised", "blamed"]

LOOKED_AT: Final = 500
"""The characters of a text that are looked at; who means it says so at once."""

_PRAISE: Final = """
    amazing awesome brilliant excellent fantastic good great helpful nice perfect useful wonderful
"""
_BLAME: Final = """
    awful bad dumb garbage incorrect nonsense rubbish stupid terrible unhelpful useless worthless wrong
"""
_FILLER: Final = """
    a absolutely all an at completely extremely just me pretty quite really simply so still such super the
    totally us utterly very
"""
_DENIAL: Final = """
    barely cannot cant dont hardly isnt neither never no nor not wasnt without
"""
_SUPPOSAL: Final = """
    could how if might should unless when whether who why would
"""
_WORK: Final = """
    advice answer answers bot explanation help job reply response summary work
"""

PRAISE: Final = frozenset(_PRAISE.split())
BLAME: Final = frozenset(_BLAME.split())
FAULTS: Final = frozenset({"correct", "good", "help", "helpful", "right", "true", "useful"})
"""What blames where it is denied. All else that is denied means nothing: "not bad", "not perfect"."""
SAYINGS: Final[Mapping[tuple[str, ...], Verdict | None]] = MappingProxyType(
    {
        ("thanks", "for", "nothing"): "blamed",
        ("thanks", "to"): None,
        ("thanks",): "praised",
        ("thank", "you"): "praised",
        ("well", "done"): "praised",
    }
)
"""What judges wherever it stands; of two that fit, the first."""

_FILLERS: Final = frozenset(_FILLER.split())
_DENIALS: Final = frozenset(_DENIAL.split())
_SUPPOSALS: Final = frozenset(_SUPPOSAL.split())
_WORKS: Final = frozenset(_WORK.split())
# "It" is missing, since it is said of whatever was spoken of last.
_SUBJECTS: Final = frozenset({"answer", "explanation", "reply", "response", "that", "this", "you"})
_VERBS: Final = frozenset({"are", "did", "does", "gave", "is", "was", "were"})

_MENTION: Final = re.compile(r"@[\w-]+")
_SHORT: Final = ((re.compile(r"n't\b"), " not"), (re.compile(r"'s\b"), " is"), (re.compile(r"'re\b"), " are"))
_STOP: Final = re.compile(r"([.!?;,\u2013\u2014\u2026]+|\n)")
_BREAK: Final = re.compile(r"\b(?:although|and|because|but|since|though)\b")
_WORD: Final = re.compile(r"[^\W_]+")


def heard(text: str, *, human: bool, mentions: bool) -> tuple[str, ...]:
    """What a message means to the persona that attends to it, in order.

    Args:
      text: what it says.
      human: whether a human says it; what others think of it does not touch a persona.
      mentions: whether it calls the persona by name.
    """
    verdict = _judgement(text) if human else None
    return (*(("called",) if mentions else ()), *((verdict,) if verdict else ()))


OUTCOMES: Final[Mapping[str, str]] = MappingProxyType(
    {"said": "succeeded", "failed": "failed", "full": "swamped", "infeasible": "swamped"}
)
"""What it means to a persona what became of a message; what is missing means nothing."""


def outcome(kind: str, reason: str | None = None) -> tuple[str, ...]:
    """What it means to a persona what became of a message.

    Args:
      kind: as in `Outcome` of the servicing; or "failed", for a message that it failed at.
      reason: why it was shed, if it was; a refusal is said too, and no success.
    """
    name = OUTCOMES.get(kind if reason is None else reason)
    return () if name is None else (name,)


def attended(item: InboxItem, kind: str) -> tuple[str, ...]:
    """What it means to a persona that it has attended to something.

    Args:
      item: what that was, and what it covers; of what it gave itself nobody speaks.
      kind: what became of it, as in `Outcome`; what another one is to answer means nothing yet.
    """
    if kind == "passed" or item.kind == "chore":
        return ()
    human = item.sender_type == "human"
    meant = (heard(part.text, human=human, mentions=part.mentions) for part in item.parts())
    return outcome(kind) + tuple(chain.from_iterable(meant))


def refused(reason: str) -> tuple[str, ...]:
    """What it means to a persona that it refuses something; what it failed at has been felt by then."""
    return () if reason == "failed" else outcome("said", reason)


@attrs.frozen
class _Clause:
    words: tuple[str, ...]
    denied: tuple[bool, ...]
    """Of each word, whether it is said not to be."""
    opens: bool
    """Whether nothing but a name or an exclamation has come before it in its sentence."""


def _judgement(text: str) -> Verdict | None:
    found = {verdict for clause in _clauses(text) for verdict in _verdicts(clause)}
    return found.pop() if len(found) == 1 else None


def _clauses(text: str) -> Iterator[_Clause]:
    opens = True
    pieces = [*_STOP.split(_plain(text)), ""]
    for piece, stop in zip(pieces[::2], pieces[1::2], strict=True):
        parts = [_WORD.findall(part) for part in _BREAK.split(piece)]
        if "?" not in stop:
            for place, words in enumerate(parts):
                if not _SUPPOSALS.intersection(words):
                    yield _clause(words, opens=opens and place == 0)
        opens = stop.strip(",") != "" or (opens and len(parts) == 1 and len(parts[0]) <= 1)


def _plain(text: str) -> str:
    lines = text[:LOOKED_AT].splitlines()
    own = "\n".join(line for line in lines if not line.lstrip().startswith(">"))
    plain = _MENTION.sub(" ", own).replace("\u2019", "'").lower()
    for short, long in _SHORT:
        plain = short.sub(long, plain)
    return plain


def _clause(words: list[str], *, opens: bool) -> _Clause:
    # Whatever comes after a denial is denied: "I do not think that this is helpful".
    kept, denied, no = [], [], False
    for word in words:
        if word in _DENIALS:
            no = True
        elif word not in _FILLERS:
            kept.append(word)
            denied.append(no)
    return _Clause(tuple(kept), tuple(denied), opens)


def _verdicts(clause: _Clause) -> Iterator[Verdict]:
    for place, no in enumerate(clause.denied):
        verdict = _saying(clause, place) or (_word(clause, place) if _is_of_answer(clause, place) else None)
        if verdict and not no:
            yield verdict
        elif no and clause.words[place] in FAULTS and _is_of_answer(clause, place):
            yield "blamed"


def _saying(clause: _Clause, place: int) -> Verdict | None:
    fitting = (saying for saying in SAYINGS if clause.words[place : place + len(saying)] == saying)
    return SAYINGS.get(next(fitting, ()))


def _word(clause: _Clause, place: int) -> Verdict | None:
    word = clause.words[place]
    return "praised" if word in PRAISE else "blamed" if word in BLAME else None


def _is_of_answer(clause: _Clause, place: int) -> bool:
    words = clause.words
    if place + 1 < len(words) and words[place + 1] not in _WORKS:
        return False
    if place < 2:
        return clause.opens and words[:place] in {(), ("what",)}
    return words[place - 2] in _SUBJECTS and words[place - 1] in _VERBS
