"""Declarations of a daemon, and the check of parameters before delivery."""

from typing import Annotated, Any, Literal

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rtos.bus import command, on
from rtos.bus.declare import DeclaredCommand, DeclaredSubscription, Parameter, Signature, declared
from rtos.errors import CommandRejected, ConfigurationError


class Example:
    @command("thing/make", cost=0.002)
    async def make(
        self,
        *,
        name: str,
        size: int = 3,
        tags: list[str] | None = None,
        table: dict[str, int] | None = None,
        kind: Literal["a", "b"] = "a",
        share: Annotated[float, msgspec.Meta(ge=0, le=1)] = 0.5,
        anything: Any = None,
    ) -> str:
        """Make a thing.

        More text.
        """

    @command("thing/one")
    @command("thing/other")
    async def both(self) -> None: ...

    @on("data:*:created", "data:*:deleted")
    async def react(self, event) -> None: ...

    def plain(self) -> None: ...

    @property
    def broken(self) -> None:
        raise AssertionError


def signature(handler=None, name="thing/make"):
    return Signature(name, handler or Example().make)


def test_declared_yields_every_declaration_with_its_bound_method():
    daemon = Example()
    assert dict(declared(daemon)) == {
        DeclaredCommand("thing/make", 0.002): daemon.make,
        DeclaredCommand("thing/one"): daemon.both,
        DeclaredCommand("thing/other"): daemon.both,
        DeclaredSubscription(("data:*:created", "data:*:deleted")): daemon.react,
    }


def test_declarations_are_inherited_unless_overridden():
    class Child(Example):
        async def both(self) -> None:
            """Overridden without a decorator."""

    names = {fact.name for fact, _ in declared(Child()) if isinstance(fact, DeclaredCommand)}
    assert names == {"thing/make"}


def test_bad_pattern_is_refused_by_the_decorator():
    with pytest.raises(ValueError, match="pattern 'data::x' has the segment ''"):
        on("fine", "data::x")


def test_signature_has_summary_and_parameters():
    made = signature()
    assert made.summary == "Make a thing"
    assert made.parameters[:3] == [
        Parameter("name", "str", required=True),
        Parameter("size", "int", required=False),
        Parameter("tags", "list[str] | None", required=False),
    ]
    assert signature(Example().both).summary == ""


def test_defaults_are_filled_in():
    assert signature().check({"name": "n", "tags": ["x"]}) == {
        "name": "n",
        "size": 3,
        "tags": ["x"],
        "table": None,
        "kind": "a",
        "share": 0.5,
        "anything": None,
    }


def test_mutable_default_is_not_shared_between_calls():
    async def handler(*, members: list[str] = []): ...  # noqa: B006 - the subject of this test

    checked = signature(handler)
    checked.check({})["members"].append("x")
    assert checked.check({}) == {"members": []}


TAKES = r"; parameters: name, \[size\], \[tags\], \[table\], \[kind\], \[share\], \[anything\]$"


@pytest.mark.parametrize(
    ("given_", "parameter", "text"),
    [
        ({}, "name", r"^thing/make: parameter 'name': lacks the parameter `name`" + TAKES),
        ({"name": 5}, "name", "parameter 'name': expected `str`, got `int`" + TAKES),
        ({"name": "n", "size": "3"}, "size", "parameter 'size': expected `int`, got `str`;"),
        ({"name": "n", "size": True}, "size", "expected `int`, got `bool`"),
        ({"name": "n", "colour": 1}, "colour", "parameter 'colour': does not take a parameter `colour`"),
        ({"name": "n", "tags": ["a", 5]}, "tags", "parameter 'tags': expected `str`, got `int`"),
        ({"name": "n", "table": {"a": "b"}}, "table", "parameter 'table': expected `int`, got `str`"),
        ({"name": "n", "table": {1: 2}}, "table", "parameter 'table': expected `str`, got `int` as a key"),
        ({"name": "n", "kind": "c"}, "kind", "parameter 'kind': invalid enum value 'c'"),
        ({"name": "n", "share": 1.5}, "share", "parameter 'share': expected `float` <= 1"),
        ({"name": None}, "name", "parameter 'name': expected `str`, got `null`"),
        (5, None, "^thing/make: expected `object`, got `int`"),
        ({1: 2}, None, "^thing/make: expected `str` as a key"),
    ],
)
def test_rejection_names_the_wrong_parameter(given_, parameter, text):
    with pytest.raises(CommandRejected, match=text) as caught:
        signature().check(given_)
    assert caught.value.parameter == parameter
    assert caught.value.command == "thing/make"


def test_lax_check_converts_text_to_numbers():
    assert (
        signature().check({"name": "5", "size": "10", "share": "0.25"}, lax=True).items()
        >= {
            "name": "5",
            "size": 10,
            "share": 0.25,
        }.items()
    )
    with pytest.raises(CommandRejected, match="parameter 'size': expected `int`, got `str`"):
        signature().check({"name": "n", "size": "ten"}, lax=True)


def test_command_without_parameters_accepts_none():
    nothing = signature(Example().both)
    assert nothing.check({}) == {}
    with pytest.raises(CommandRejected, match="does not take a parameter `x`; parameters: none"):
        nothing.check({"x": 1})


def test_handler_whose_parameters_cannot_be_checked_is_refused():
    async def untyped(*, a): ...

    async def variadic(**more: int): ...

    async def positional(a: int, /): ...

    async def clashes(*, deadline: float): ...

    for handler, text in (
        (untyped, "parameter 'a' has no annotation; annotate it"),
        (variadic, r"parameter 'more' cannot be passed by name; declare it after a bare \*"),
        (positional, "parameter 'a' cannot be passed by name"),
        (clashes, "the name 'deadline' is reserved for the deadline of a call"),
    ):
        with pytest.raises(ConfigurationError, match=text):
            signature(handler)


values = st.sampled_from([None, True, 0, 10**30, 0.5, "", "a", "10", [], ["a"], [1], {}, {"a": 1}, {1: 1}])


@given(st.dictionaries(st.sampled_from(["name", "size", "kind", "other"]), values))
def test_parameters_are_accepted_whole_or_rejected(given_):
    try:
        checked = signature().check(given_)
    except CommandRejected as error:
        assert error.parameter in (*given_, "name", None)
    else:
        assert given_.items() <= checked.items()
