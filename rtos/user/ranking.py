"""Ranking: which of the passages that were found answers the question best.

Pure. The candidates come from a full-text search, which sees words and not what
is asked for; here the few that it found are looked at more closely, by

- coverage: the share of the question's words that are there, rare ones counting
  for more, a label for more than the text around it, a heading for less;
- proximity: whether they stand together, to which a heading adds its own;
- the answer's type: a question for a place, a number, a time, a person or a
  reason is better answered where one is, close to the words;
- strength: what is half forgotten counts half.

Law: no passage gains by words that were not asked for, and with none of the
question's words its score is 0. Whether a passage is about the question does not
depend on how strong it is.
"""

from __future__ import annotations

import itertools
import math
import re
from bisect import bisect_left, bisect_right
from collections import Counter
from typing import TYPE_CHECKING, Final

import attrs

from rtos.user.words import WEAK_WORDS, read, stem, terms

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from rtos.user.passages import Passage
    from rtos.user.words import Word

_NEAREST_HEADING: Final = 0.8
_OUTER_HEADING: Final = 0.5
_LABEL: Final = 0.15
_REPEATED: Final = 0.1
_PROXIMITY: Final = 0.25
_TYPE: Final = 0.5
_FENCED: Final = 0.9
_FILLER: Final = 0.25
_NEAR: Final = 8
"""How many words away a word may be to belong to a place, a number or a name."""
_LABELLED: Final = re.compile(r"^[^\w\n]*(\w[^:\n]{0,60}):(?:[*_]*)(?:\s|$)", re.MULTILINE)
"""What a line begins with before a colon: it says what the line, or what follows, is about."""
KNOWN: Final = 0.45
"""From this coverage on a passage is about the question."""


@attrs.frozen
class Ranked:
    """A passage and how well it answers."""

    passage: Passage
    score: float
    coverage: float
    """The weighted share of the question's words that it has, 0..1."""


@attrs.frozen
class Cue:
    """What kind of answer a question asks for.

    `filler` are words that belong to the asking: who asks where something lives
    does not look for the word `live`.
    """

    asked: re.Pattern[str]
    answer: re.Pattern[str]
    filler: frozenset[str]


def _cue(asked: str, answer: str, filler: str) -> Cue:
    return Cue(
        asked=re.compile(asked, re.IGNORECASE),
        answer=re.compile(answer),
        filler=frozenset(stem(word) for word in filler.split()),
    )


_NAME: Final = r"(?<![.!?] )\b[A-Z][a-z]+\w*"
CUES: Final = (
    _cue(
        r"\bwhere\b|\b(?:which|what)\b.{0,60}\b(?:path|folder|directory|url|address|location|place)\b",
        # A path (rooted, with two separators, or with a file at its end), a URL, a file, or a place by name.
        # Each begins at the start of a token only, or a long one would be tried from each of its letters.
        r"(?<![a-z])[a-z]+://\S+"
        r"|(?<![\w.*{}<>$/~-])(?:~|\.{1,2})?/?[\w.*{}<>$-]+/(?:[\w.*{}<>$-]+/|[\w*{}<>$-]+\.\w)[\w./*{}<>$-]*"
        r"|(?<!\w)[~.]\w*/[\w./*{}<>$-]+|(?<![\w-])[\w-]+\.[a-z]{2,5}\b"
        r"|\b(?:in|at|near|under) (?:the )?[A-Z]\w+",
        "live lives located location stored kept found find reside resides placed put happen lie"
        " path folder directory url address",
    ),
    _cue(
        r"\bhow (?:many|much|long|large|big|small|old|often|far|fast|high|deep|tall|wide)\b|\bnumber of\b",
        r"\b\d[\d,.]*|\b(?:one|two|three|four|five|six|seven|eight|nine|ten|twelve|hundred|thousand)\b",
        "number exist long large big small old often far fast high deep tall wide",
    ),
    _cue(
        r"\bwhen\b|\b(?:which|what) (?:year|date|day|month|time)\b",
        r"\b\d{1,4}(?:[-:./]\d{1,2})*\b|\b(?:January|February|March|April|May|June|July|August|September|October"
        r"|November|December|(?:Mon|Tues|Wednes|Thurs|Fri|Satur|Sun)day)\b",
        "year date day month time happen",
    ),
    _cue(r"\bwho(?:se|m)?\b", _NAME, "person people"),
    _cue(
        r"\bwhy\b|\breasons?\b", r"(?i:\b(?:because|since|why|reasons?|so that|therefore|due to)\b)", "reason"
    ),
)
"""By the form of the question."""


def rank(question: str, passages: Iterable[Passage]) -> list[Ranked]:
    """The passages with at least one word of the question, best first.

    Equals stay in the order in which they were given. Reading costs more than
    judging, and both are about 0.1 ms a passage: who must not hold a loop up for
    all of them together calls the steps one by one, as this does.
    """
    looks = [look_at(passage) for passage in passages]
    wanted = want(question, looks)
    return best_first(judge(look, wanted) for look in looks)


@attrs.frozen
class Look:
    """A passage as it is read: how often which word is where, and every word in its place."""

    passage: Passage
    words: list[Word]
    starts: list[int]
    body: Counter[str]
    labels: frozenset[str]
    heading: frozenset[str]
    outer: frozenset[str]

    def has(self, word: str) -> bool:
        """Whether a word is in the text or in a heading above it."""
        return word in self.body or word in self.heading or word in self.outer

    def between(self, first: int, last: int) -> frozenset[str]:
        """The words from one place to another, as far as there are any."""
        return _all(self.words[max(0, first) : last + 1])


@attrs.frozen
class Wanted:
    """What a question asks for: its words and what each counts for, and the types of answer."""

    weights: Mapping[str, float]
    whole: float
    """All weights together, or 1 where there are none."""
    cues: tuple[Cue, ...]


def look_at(passage: Passage) -> Look:
    """Read a passage."""
    words = read(passage.text)
    outer, _, nearest = passage.heading.rpartition(" > ")
    labels = (read(match[1]) for match in _LABELLED.finditer(passage.text))
    return Look(
        passage=passage,
        words=words,
        starts=[word.start for word in words],
        body=Counter(itertools.chain.from_iterable(word.forms for word in words)),
        labels=_all(itertools.chain.from_iterable(labels)),
        heading=_all(read(nearest)),
        outer=_all(read(outer)),
    )


def want(question: str, looks: Sequence[Look]) -> Wanted:
    """What a question asks for: the rarer a word is among the candidates, the more it counts."""
    cues = tuple(cue for cue in CUES if cue.asked.search(question))
    weights: dict[str, float] = {}
    for term in terms(question):
        word = stem(term)
        # A word that nobody has counts as one that only one has: it is asked for, and is missing.
        having = max(1, sum(look.has(word) for look in looks))
        weak = term in WEAK_WORDS or any(word in cue.filler for cue in cues)
        weights[word] = math.log1p((len(looks) + 1) / having) * (_FILLER if weak else 1.0)
    return Wanted(weights=weights, whole=sum(weights.values()) or 1.0, cues=cues)


def judge(look: Look, wanted: Wanted) -> Ranked:
    """How well a passage answers."""
    there = {word: weight for word, weight in wanted.weights.items() if look.has(word)}
    credit = sum(weight * _credit(word, look) for word, weight in there.items())
    together = _PROXIMITY * _proximity(look, there)
    typed = _TYPE * max((_type_match(cue, look, there) for cue in wanted.cues), default=0.0)
    score = (credit + together + typed) * _plainness(look.passage.text) * look.passage.strength
    return Ranked(
        passage=look.passage, score=score / wanted.whole, coverage=sum(there.values()) / wanted.whole
    )


def best_first(ranked: Iterable[Ranked]) -> list[Ranked]:
    """In order of score, without those that have none; equals stay as they came."""
    return sorted((one for one in ranked if one.score > 0), key=lambda one: -one.score)


def _all(words: Iterable[Word]) -> frozenset[str]:
    return frozenset(itertools.chain.from_iterable(word.forms for word in words))


def _credit(word: str, look: Look) -> float:
    often = look.body[word]
    if often:
        return 1.0 + (_LABEL if word in look.labels else 0.0) + _REPEATED * (1.0 - 1.0 / often)
    return _NEAREST_HEADING if word in look.heading else _OUTER_HEADING


def _proximity(look: Look, there: Mapping[str, float]) -> float:
    """The most weight that stands in one place of a few words, those of its heading included."""
    places = [i for i, word in enumerate(look.words) if not word.forms.isdisjoint(there)]
    best = 0.0
    for i in places:
        near = look.between(i, i + _NEAR - 1) | look.heading
        asked = [weight for word, weight in there.items() if word in near]
        best = max(best, sum(asked) if len(asked) > 1 else 0.0)
    return best


def _type_match(cue: Cue, look: Look, there: Mapping[str, float]) -> float:
    """The most weight that stands close to something of the type that is asked for, and in it."""
    best = 0.0
    for match in cue.answer.finditer(look.passage.text):
        first = bisect_right(look.starts, match.start()) - 1
        last = bisect_left(look.starts, match.end()) - 1
        around, within = look.between(first - _NEAR, last + _NEAR), look.between(first, last)
        best = max(best, sum(w * ((word in around) + (word in within)) / 2 for word, w in there.items()))
    return best


def _plainness(text: str) -> float:
    """Prose before code: what explains is quoted rather than what does."""
    return _FENCED if text.lstrip().startswith(("```", "~~~")) else 1.0
