"""Words: what a question asks for, and when two words are the same one.

Pure. English, by rule and not by dictionary: suffixes are cut off roughly, and
the same way on both sides, so that `deleted` finds `delete`.

A word is a run of letters and digits. `DataDaemon` is one word, and also `data`
and `daemon` where it is read, since it may be asked for either way.
"""

from __future__ import annotations

import functools
import re
from typing import Final

import attrs

_WORD: Final = re.compile(r"[^\W_]+")
_HUMP: Final = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")
_APOSTROPHE: Final = re.compile(r"(?<=\w)['\u2019\u02bc](?:s|re|ve|ll|d|m|t)?(?!\w)")
_LONG_FORM: Final = {
    "config": "configuration",
    "db": "database",
    "dir": "directory",
    "doc": "document",
    "env": "environment",
    "msg": "message",
    "param": "parameter",
    "repo": "repository",
}
_VOWEL: Final = re.compile(r"[aeiouy]")

_STOP: Final = """
    a about above after again all also am an and any are aren as at be because been before being below
    between both but by can cannot could couldn did didn do does doesn doing don down during each either
    else every few for from further get gets give given got had hadn has hasn have haven having he her
    here hers him his how however i if in into is isn it its itself just know let many may me might mine
    more most much must my no nor not now of off on once one only or other our ours out over own please
    rather same shall she should shouldn so some such tell than that the their theirs them then there
    these they this those through to too under until up upon us very was wasn we were weren what when
    where whether which while who whom whose why will with within without won would wouldn yet you your
    yours
"""
_WEAK: Final = """
    become becomes call called come consist contain exist exists find found go goes happen kind like
    look made make makes mean means need needs say says sort take thing things use used uses want way
    work works
"""

MAX_TERMS: Final = 32
"""The most words that a question is taken to ask for."""
STOP_WORDS: Final = frozenset(_STOP.split())
"""Words that say nothing about what is asked for."""
WEAK_WORDS: Final = frozenset(_WEAK.split())
"""Words that say little: they may be missing from a good answer."""


@attrs.frozen
class Word:
    """A word as it stands in a text: its forms, and where it is."""

    forms: frozenset[str]
    start: int
    end: int


def terms(question: str) -> list[str]:
    """The words of a question that say what it is about, in lower case, each once, in order.

    Quotes and possessives go: ``"user's"`` gives ``user``. A question of stop
    words alone gives nothing, and of a long one only the first `MAX_TERMS` count.
    """
    plain = _APOSTROPHE.sub("", question)
    found = (match[0].lower() for match in _WORD.finditer(plain))
    return list(dict.fromkeys(word for word in found if word not in STOP_WORDS))[:MAX_TERMS]


def read(text: str) -> list[Word]:
    """The words of a text, in order, under every form by which they may be asked for."""
    return [
        Word(forms=_forms(match[0]), start=match.start(), end=match.end()) for match in _WORD.finditer(text)
    ]


def stem(word: str) -> str:
    """The part of a lower-case word that its inflections share, roughly."""
    word = _LONG_FORM.get(word, word)
    word = _LONG_FORM.get(_singular(word), _singular(word))
    for suffix in ("ing", "ed"):
        left = word.removesuffix(suffix)
        if left != word and len(left) > 2 and _VOWEL.search(left):
            return _bare(_undoubled(left))
    if len(word) > 5 and word.endswith(("tion", "sion")):
        return _bare(word[:-3])
    return _bare(word)


@functools.lru_cache(maxsize=4096)
def _forms(word: str) -> frozenset[str]:
    parts = _HUMP.split(word)
    return frozenset(stem(part.lower()) for part in ([word, *parts] if len(parts) > 1 else [word]))


def _singular(word: str) -> str:
    if len(word) < 3 or word.endswith(("ss", "us", "is")):
        return word
    if len(word) > 4 and word.endswith("ies"):
        return word[:-3] + "y"
    if len(word) > 4 and word.endswith(("sses", "shes", "ches", "xes", "zes")):
        return word[:-2]
    return word.removesuffix("s")


def _undoubled(word: str) -> str:
    return word[:-1] if word[-1] == word[-2] and word[-1] not in "aeiouslz" else word


def _bare(word: str) -> str:
    return word[:-1] if len(word) > 3 and word.endswith("e") else word
