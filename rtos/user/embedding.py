"""Embeddings: texts as vectors, so that what is alike is near without sharing a word.

Pure. An embedder gives numbers; here they become what the store keeps: a signed byte
a component, and a signature of one bit a component by which all are looked at first.
Vectors of two embedders are never compared, for a signature names its own.

`LetterEmbedder` needs no model: what is spelt alike is near, as `harbor` and `harbours`.
One that knows meanings is another class of the same shape.
"""

from __future__ import annotations

import hashlib
import math
import re
from functools import lru_cache
from operator import add
from typing import TYPE_CHECKING, Final, Protocol

import attrs

from rtos.user.words import STOP_WORDS, read

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

COMPONENTS: Final = 256
"""Of the vectors of `LetterEmbedder`."""
MAX_WORDS: Final = 256
"""Words of a text that count there; of more the first."""
_NAME: Final = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")
_BYTE: Final = 127


class Embedder(Protocol):
    """Whoever makes vectors of texts."""

    @property
    def name(self) -> str:
        """Which vectors these are; another one after any change of them. Lower case, digits and ``._-``."""
        ...

    def embed(self, texts: Sequence[str]) -> Sequence[Sequence[float]]:
        """A vector for each text, all of one length, in order. Runs in a thread, and may take its time."""
        ...


@attrs.frozen
class Embedding:
    """A vector as the store keeps it; see ``data/nearest``.

    Attributes:
      signature: ``<name>:<hex>``, a bit for each component, set where it is above 0.
      vector: the hex of a signed byte for each component.
    """

    signature: str
    vector: str


def embeddings(embedder: Embedder, texts: Sequence[str]) -> list[Embedding]:
    """What the store keeps of texts.

    Raises:
      ValueError: the embedder's name cannot be kept, or it did not give a vector for each text.
    """
    if not _NAME.fullmatch(embedder.name):
        raise ValueError(f"embedder is named {embedder.name!r}; use lower case, digits and ._-")
    vectors = embedder.embed(texts)
    if len(vectors) != len(texts):
        raise ValueError(f"{embedder.name} gave {len(vectors)} vectors for {len(texts)} texts; give one each")
    return [_kept(embedder.name, vector) for vector in vectors]


def _kept(name: str, vector: Sequence[float]) -> Embedding:
    # Of a text of stop words, say, there is nothing: it is as far from all as from each.
    most = max(map(abs, vector), default=0.0) or 1.0
    scaled = [round(component / most * _BYTE) for component in vector]
    bits = bytearray(-(-len(scaled) // 8))
    for place, component in enumerate(scaled):
        if component > 0:
            bits[place // 8] |= 128 >> place % 8
    return Embedding(f"{name}:{bits.hex()}", bytes(component & 255 for component in scaled).hex())


@attrs.frozen
class LetterEmbedder:
    """By words and the letters in them: a word's stem, and each three letters in a row, has a direction.

    A text is the sum of its words' directions, each word once (a simhash; Charikar 2002).
    What differs in an ending or a letter keeps most of its directions.
    """

    name: str = "letters-1"

    def embed(self, texts: Sequence[str]) -> list[list[float]]:
        """See ``Embedder.embed``; about a millisecond for a passage."""
        return [_sum(_direction(word) for word in _words(text)) for text in texts]


def _words(text: str) -> list[str]:
    found = dict.fromkeys(form for word in read(text) for form in sorted(word.forms))
    return [word for word in found if word not in STOP_WORDS][:MAX_WORDS]


@lru_cache(maxsize=4096)
def _direction(word: str) -> tuple[float, ...]:
    ends = f"<{word}>"
    # The whole word counts as much as two of its parts.
    features = [ends, ends, *(ends[place : place + 3] for place in range(len(ends) - 2))]
    total = _sum(_signs(feature) for feature in features)
    length = math.sqrt(sum(component * component for component in total)) or 1.0
    return tuple(component / length for component in total)


def _signs(feature: str) -> list[float]:
    digest = int.from_bytes(hashlib.blake2b(feature.encode(), digest_size=COMPONENTS // 8).digest(), "big")
    return [1.0 if digest >> place & 1 else -1.0 for place in range(COMPONENTS)]


def _sum(vectors: Iterable[Sequence[float]]) -> list[float]:
    total = [0.0] * COMPONENTS
    for vector in vectors:
        total = list(map(add, total, vector))
    return total
