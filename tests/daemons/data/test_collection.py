"""Data is checked against the collection's entity, and the field at fault is named."""

from __future__ import annotations

from typing import ClassVar

import attrs
import pytest

from rtos.daemons.data import Collection
from rtos.errors import CommandRejected, ConfigurationError


@attrs.frozen
class Address:
    street: str
    number: int = 1


@attrs.frozen(kw_only=True)
class Person:
    name: str
    age: int = attrs.field(default=0, validator=attrs.validators.ge(0))
    addresses: tuple[Address, ...] = ()
    tags: dict[str, bool] = attrs.field(factory=dict)


PEOPLE = Collection("people", entity=Person, search=("name",), indexes=("age",))


def test_defaults_are_filled_in_and_all_is_plain() -> None:
    checked = PEOPLE.checked("data/create", {"name": "Ann", "addresses": ({"street": "Quay"},)})
    addresses = [{"street": "Quay", "number": 1}]
    assert checked == {"name": "Ann", "age": 0, "addresses": addresses, "tags": {}}
    # What was checked once passes again, as an update does it.
    assert PEOPLE.checked("data/update", checked) == checked


@pytest.mark.parametrize(
    ("data", "text"),
    [
        ({}, "name"),
        ({"name": 1}, "\\$.name"),
        ({"name": "x", "age": True}, "\\$.age"),
        ({"name": "x", "age": -1}, "age"),
        ({"name": "x", "bogus": 1}, "no field 'bogus'"),
        ({"name": "x", "addresses": [{"street": "a", "zip": 2}]}, "no field 'addresses\\[0\\].zip'"),
        ({"name": "x", "addresses": [{}]}, "street"),
        ({"name": "x", "id": "y"}, "'id' is the store's own"),
        ({"name": "x", "version": 3}, "'version' is the store's own"),
        ({"name": "\ud800"}, "data.name"),
    ],
    ids=str,
)
def test_what_is_wrong_is_named(data, text) -> None:
    with pytest.raises(CommandRejected, match=text) as caught:
        PEOPLE.checked("data/create", data)
    assert (caught.value.command, caught.value.parameter) == ("data/create", "data")


def test_keys_of_a_mapping_are_not_fields() -> None:
    assert PEOPLE.checked("x", {"name": "x", "tags": {"any": True}})["tags"] == {"any": True}


def test_without_an_entity_any_plain_data_will_do() -> None:
    data = {"a": [1, {"b": None}], "c d": "é"}
    checked = Collection("free").checked("x", data)
    assert checked == data
    assert checked["a"] is not data["a"]
    with pytest.raises(CommandRejected, match="data.a is a object"):
        Collection("free").checked("x", {"a": object()})


@pytest.mark.parametrize("name", ["", "Big", "a-b", "a:b", "1a", "a$b", 'a"', "x" * 64])
def test_a_name_is_a_word(name) -> None:
    with pytest.raises(ValueError, match="name"):
        Collection(name)


@pytest.mark.parametrize("fields", [{"search": ("nmae",)}, {"indexes": ("nmae",)}])
def test_an_index_of_a_field_that_is_not_there_is_refused(fields) -> None:
    with pytest.raises(ConfigurationError, match="cannot index 'nmae'"):
        Collection("people", entity=Person, **fields)


@pytest.mark.parametrize("field", ["a'b", "rank", "Rank", "rowid", "ROWID", "id", "a.b", ""])
def test_an_index_is_a_word_that_is_free(field) -> None:
    with pytest.raises(ConfigurationError, match="cannot index"):
        Collection("free", search=(field,))


@pytest.mark.parametrize("fields", [("a", "a"), ("title", "Title")])
def test_a_field_is_indexed_once_whatever_its_case(fields) -> None:
    for use in ("search", "indexes"):
        with pytest.raises(ConfigurationError, match=f"cannot index '{fields[1]}'.*each once"):
            Collection("free", **{use: fields})
    # Looked up and searched are two things.
    Collection("free", search=("a",), indexes=("a",))


def test_an_entity_declares_its_collection() -> None:
    @attrs.frozen(kw_only=True)
    class Note:
        collection: ClassVar[str] = "notes"
        search_fields: ClassVar[tuple[str, ...]] = ("text",)
        indexed_fields: ClassVar[tuple[str, ...]] = ("room",)
        text: str = ""
        room: str = ""

    assert Collection.of(Note) == Collection("notes", entity=Note, search=("text",), indexes=("room",))

    @attrs.frozen
    class Bare:
        collection: ClassVar[str] = "bare"
        durable: ClassVar[bool] = False

    assert Collection.of(Bare) == Collection("bare", entity=Bare, durable=False)
    Note.indexed_fields = ("nothing",)
    with pytest.raises(ConfigurationError, match="'notes' cannot index 'nothing'"):
        Collection.of(Note)
    with pytest.raises(ConfigurationError, match="int names no collection"):
        Collection.of(int)
