"""How a daemon declares what it serves: decorators that attach facts, and nothing else.

Pure. There is no registry: what a daemon serves is found on its class by the bus
that it is given to, so two runtimes in one process know nothing of each other.
"""

from __future__ import annotations

import inspect
import math
import re
from typing import TYPE_CHECKING, Any, TypeVar, get_type_hints

import attrs
import msgspec

from rtos.bus.pattern import check_pattern
from rtos.errors import CommandRejected, ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

_MARK = "__rtos_declared__"
_Body = TypeVar("_Body", bound="Callable[..., Any]")

# Where msgspec found the fault: "... - at `$.limit`", "... - at `key` in `$.filter.a`".
_PLACE = re.compile(r" - at (?P<key>`key` in )?`\$\.?(?P<parameter>[^`.\[]*)[^`]*`$")
_BY_NAME = (inspect.Parameter.KEYWORD_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)


@attrs.frozen
class DeclaredCommand:
    """A command as its daemon declares it.

    Attributes:
      name: ``noun/verb``.
      cost: declared worst processor time, seconds; ``math.inf`` if not declared.
      control: whether it goes by the daemon's control lane.
    """

    name: str
    cost: float = math.inf
    control: bool = False


@attrs.frozen
class DeclaredReaction:
    """Event patterns that a daemon reacts to, one event after the other."""

    patterns: tuple[str, ...]


def command(name: str, *, cost: float = math.inf, control: bool = False) -> Callable[[_Body], _Body]:
    """Declare that the method below serves the command ``name``.

    With ``control`` it goes by the daemon's control lane: a port of its own without a
    bound, served at the most urgent level by a worker that nothing else keeps busy. For
    what has to work when the daemon has more to do than it can: looking, configuring,
    suspending. Such a command should be short.

    Its parameters are keyword-only and typed; callers' parameters are checked
    against the annotations before delivery. The first line of its docstring is
    the help of the command.
    """
    return _marker(DeclaredCommand(name, cost, control))


def on(*patterns: str) -> Callable[[_Body], _Body]:
    """Declare that the method below reacts to events whose name matches one of ``patterns``.

    Segments are parted by ``:``; ``*`` stands for exactly one segment. The
    events of all the patterns come one after the other, in the order in which
    they were emitted.

    Raises:
      ValueError: a pattern can match nothing.
    """
    for pattern in patterns:
        check_pattern(pattern)
    return _marker(DeclaredReaction(patterns))


def _marker(fact: DeclaredCommand | DeclaredReaction) -> Callable[[_Body], _Body]:
    def mark(body: _Body) -> _Body:
        setattr(body, _MARK, (*getattr(body, _MARK, ()), fact))
        return body

    return mark


def declared(daemon: object) -> Iterator[tuple[DeclaredCommand | DeclaredReaction, Callable[..., Any]]]:
    """Everything that ``daemon`` declares, with the bound methods."""
    for name in dir(type(daemon)):
        for fact in getattr(getattr(type(daemon), name, None), _MARK, ()):
            yield fact, getattr(daemon, name)


@attrs.frozen
class Parameter:
    """One parameter of a command, for people."""

    name: str
    type: str
    required: bool


class Signature:
    """The parameters of a command, and the check that stands before delivery.

    Raises:
      ConfigurationError: a parameter has no type, or could not be passed by name.
    """

    def __init__(self, name: str, body: Callable[..., Any]) -> None:
        self.name = name
        self.summary = (inspect.getdoc(body) or "").partition("\n")[0].rstrip(".")
        hints = get_type_hints(body, include_extras=True)
        fields: list[Any] = []
        self.parameters: list[Parameter] = []
        for parameter in inspect.signature(body).parameters.values():
            _check_parameter(name, parameter, hints)
            annotation = hints[parameter.name]
            required = parameter.default is inspect.Parameter.empty
            fields.append(
                (parameter.name, annotation) if required else (parameter.name, annotation, parameter.default)
            )
            text = getattr(annotation, "__name__", None) if isinstance(annotation, type) else None
            self.parameters.append(Parameter(parameter.name, text or str(annotation), required))
        self._struct = msgspec.defstruct("Parameters", fields, kw_only=True, forbid_unknown_fields=True)
        self._names = tuple(parameter.name for parameter in self.parameters)

    def check(self, given: Mapping[str, object], *, lax: bool = False) -> dict[str, Any]:
        """The parameters as the body takes them.

        Args:
          given: what the caller sent.
          lax: take ``"10"`` for a number and so on, as a command line sends it.

        Raises:
          CommandRejected: one is missing, unknown or of the wrong type; it is named.
        """
        try:
            checked = msgspec.convert(given, self._struct, strict=not lax)
        except msgspec.ValidationError as error:
            raise self._rejection(str(error)) from None
        return {name: getattr(checked, name) for name in self._names}

    def _rejection(self, text: str) -> CommandRejected:
        place = _PLACE.search(text)
        parameter = None
        if place is not None:
            text = text[: place.start()] + (" as a key" if place["key"] else "")
            parameter = place["parameter"] or None
        elif text.startswith("Object "):
            parameter = text.split("`")[1]
        reason = text.replace("Object missing required field", "lacks the parameter")
        reason = reason.replace("Object contains unknown field", "does not take a parameter")
        takes = ", ".join(p.name if p.required else f"[{p.name}]" for p in self.parameters) or "none"
        return CommandRejected(
            self.name, reason[:1].lower() + reason[1:], parameter=parameter, remedy=f"parameters: {takes}"
        )


def _check_parameter(command: str, parameter: inspect.Parameter, hints: Mapping[str, object]) -> None:
    name = parameter.name
    if parameter.kind not in _BY_NAME:
        raise ConfigurationError(
            f"{command}: parameter {name!r} cannot be passed by name", "declare it after a bare *"
        )
    if name not in hints:
        raise ConfigurationError(f"{command}: parameter {name!r} has no type", "annotate it")
    if name == "deadline":
        raise ConfigurationError(
            f"{command}: parameter {name!r} is taken, it is that of every call", "use current_deadline()"
        )
