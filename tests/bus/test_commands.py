"""Commands: routing by name, the check of parameters before delivery, and errors."""

import math

import pytest
import trio

from rtos.bus import Commands
from rtos.bus.commands import Route
from rtos.bus.declare import DeclaredCommand, Signature
from rtos.errors import CommandRejected, ConfigurationError, UnknownCommand
from rtos.scheduler import CallStatistics


class FakePort:
    """Runs each request and records it in ``calls``."""

    def __init__(self, name):
        self.name = name
        self.calls = []

    async def call(self, request, *, deadline=math.inf, statistics):
        self.calls.append((statistics.name, request.parameters, deadline))
        await trio.lowlevel.checkpoint()
        return await request.route.handler(**request.parameters)


def attach(commands, name, handler, *, port=None):
    route = Route(
        DeclaredCommand(name), Signature(name, handler), handler, port or FakePort("d"), CallStatistics(name)
    )
    commands.attach(route)
    return route


async def double(*, number: int) -> int:
    return 2 * number


async def test_execute_passes_checked_parameters_and_the_deadline():
    commands, port = Commands(), FakePort("d")
    attach(commands, "math/double", double, port=port)
    assert await commands.execute("math/double", number=4) == 8
    assert await commands.execute("math/double", number=4, deadline=7.0) == 8
    assert port.calls == [("math/double", {"number": 4}, math.inf), ("math/double", {"number": 4}, 7.0)]


async def test_parameter_may_be_called_name():
    async def greet(*, name: str) -> str:
        return "hello " + name

    commands = Commands()
    attach(commands, "say/hello", greet)
    assert await commands.execute("say/hello", name="world") == "hello world"


async def test_wrong_parameter_is_never_delivered():
    commands, port = Commands(), FakePort("d")
    attach(commands, "math/double", double, port=port)
    with pytest.raises(CommandRejected, match="math/double: parameter 'number': expected `int`, got `str`"):
        await commands.execute("math/double", number="4")
    with pytest.raises(CommandRejected, match="lacks the parameter `number`"):
        await commands.send("math/double", {})
    assert port.calls == []


async def test_lax_send_converts_text():
    commands = Commands()
    attach(commands, "math/double", double)
    assert await commands.send("math/double", {"number": "21"}, lax=True) == 42


async def test_unknown_command_suggests_similar_names():
    commands = Commands()
    attach(commands, "data/read", double)
    attach(commands, "chat/send", double)
    with pytest.raises(
        UnknownCommand, match=r"data/raed: no daemon serves this command; did you mean data/read\?"
    ) as caught:
        await commands.execute("data/raed")
    assert (caught.value.command, caught.value.parameter) == ("data/raed", None)
    with pytest.raises(UnknownCommand, match="`rtos help` lists the commands"):
        await commands.execute("quite/else")


def test_second_route_of_the_same_name_is_refused():
    commands = Commands()
    attach(commands, "x/y", double, port=FakePort("first"))
    with pytest.raises(
        ConfigurationError, match="daemons 'first' and 'second' both declare 'x/y'; rename one"
    ):
        attach(commands, "x/y", double, port=FakePort("second"))
    assert commands.route("x/y").port.name == "first"


def test_attached_commands_are_listed_by_name():
    commands = Commands()
    for name in ("b/b", "a/a"):
        attach(commands, name, double)
    assert [route.declared.name for route in commands] == ["a/a", "b/b"]
    commands.detach("b/b")
    assert [route.declared.name for route in commands] == ["a/a"]
