"""Texts as vectors: what is alike is near, and what is kept of it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rtos.daemons.data.vectors import Near, differing, distance
from rtos.user.embedding import Embedding, LetterEmbedder, embeddings

LETTERS = LetterEmbedder()


class Fixed:
    """An embedder that gives what it is told."""

    def __init__(self, name: str, *vectors: list[float]) -> None:
        self.name = name
        self.vectors = vectors

    def embed(self, texts):
        return self.vectors


@pytest.mark.parametrize(
    ("text", "alike", "other"),
    [
        ("the harbour of Genoa", "harbors in genova", "a recipe for bread"),
        ("databse migratoin", "database migration", "weather in spring"),
        ("DataDaemon", "data daemons", "user interface"),
        ("kubernetes", "kubernets", "cabinets"),
    ],
)
def test_what_is_spelt_alike_is_nearer_than_what_is_not(text: str, alike: str, other: str) -> None:
    one, two, three = embeddings(LETTERS, [text, alike, other])
    assert distance(one.vector, two.vector) + 0.1 < distance(one.vector, three.vector)
    assert differing(one.signature, two.signature) < differing(one.signature, three.signature)


@given(st.text())
def test_any_text_has_a_vector_that_the_store_takes(text: str) -> None:
    [one], [again] = embeddings(LETTERS, [text]), embeddings(LETTERS, [text])
    assert one == again
    assert Near(one.signature, one.vector).model == "letters-1"
    assert len(one.vector) == 2 * 256


def test_a_text_of_stop_words_is_as_far_from_all() -> None:
    nothing, something, other = embeddings(LETTERS, ["the of and", "harbour", "quay"])
    assert set(nothing.vector) == {"0"}
    assert distance(nothing.vector, something.vector) == distance(nothing.vector, other.vector) == 1.0


def test_components_become_signed_bytes_and_bits() -> None:
    [one] = embeddings(Fixed("m-1", [0.5, -0.5, 0.0, 0.25, -0.001, 0.001, 0.1, -0.1, 0.5]), ["x"])
    assert one == Embedding("m-1:9280", "7f81004000001" + "9e77f")


@pytest.mark.parametrize(
    ("embedder", "match"),
    [
        (Fixed("A model", [1.0]), "embedder is named 'A model'; use lower case"),
        (Fixed("m"), "m gave 0 vectors for 1 texts; give one each"),
    ],
)
def test_an_embedder_that_cannot_be_kept_is_refused(embedder: Fixed, match: str) -> None:
    with pytest.raises(ValueError, match=match):
        embeddings(embedder, ["x"])


@pytest.mark.parametrize(
    ("signature", "vector", "match"),
    [
        ("", "00", "signature is ''; give a model"),
        ("m:0", "00", "signature is 'm:0'; give"),
        ("m:00", "", "vector is ''; give hex"),
        ("m:00", "0" * 34, "signature has 8 bits and vector 17 components; give one bit for each"),
        ("m:" + "00" * 513, "00" * 4104, "and at most 4096"),
    ],
)
def test_what_is_no_vector_is_refused(signature: str, vector: str, match: str) -> None:
    with pytest.raises(ValueError, match=match):
        Near(signature, vector)
