"""Decorators that declare the commands and event handlers of a daemon, and the check of parameters.

Pure. The decorators only mark methods; there is no registry. The bus to which a daemon is attached
finds the marks on its class, so two runtimes in one process are independent.
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

# How msgspec names the place of a fault: "... - at `$.limit`", "... - at `key` in `$.filter.a`".
_PLACE = re.compile(r" - at (?P<key>`key` in )?`\$\.?(?P<parameter>[^`.\[]*)[^`]*`$")
_BY_NAME = (inspect.Parameter.KEYWORD_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)


@attrs.frozen
class DeclaredCommand:
    """The declaration of a command.

    Attributes:
      name: ``noun/verb``.
      cost: worst-case CPU time, seconds; ``math.inf`` if not declared.
      control: whether it is served on the daemon's control lane.
    """

    name: str
    cost: float = math.inf
    control: bool = False


@attrs.frozen
class DeclaredSubscription:
    """The event patterns of one handler, which gets one event after the other."""

    patterns: tuple[str, ...]


def command(name: str, *, cost: float = math.inf, control: bool = False) -> Callable[[_Body], _Body]:
    """Declare that the decorated async method serves the command ``name``.

    The parameters of the method need annotations, and callers' parameters are checked against
    them before delivery. The first line of its docstring is the help text of the command.

    Args:
      name: ``noun/verb``.
      cost: worst-case CPU time, seconds; used by the analysis.
      control: serve the command on the daemon's control lane: a port without a bound, with a worker
        of its own at level 0. For commands that must work while the daemon is overloaded, suspended
        or hangs, such as inspecting and configuring it. Such a command should be short.
    """
    return _marker(DeclaredCommand(name, cost, control))


def on(*patterns: str) -> Callable[[_Body], _Body]:
    """Declare that the decorated async method handles events whose names match one of ``patterns``.

    Patterns are segments separated by ``:``; ``*`` matches exactly one segment. The method gets the
    events of all patterns one at a time, in the order in which they were emitted.

    Raises:
      ValueError: a pattern can never match.
    """
    for pattern in patterns:
        check_pattern(pattern)
    return _marker(DeclaredSubscription(patterns))


def _marker(fact: DeclaredCommand | DeclaredSubscription) -> Callable[[_Body], _Body]:
    def mark(handler: _Body) -> _Body:
        setattr(handler, _MARK, (*getattr(handler, _MARK, ()), fact))
        return handler

    return mark


def declared(daemon: object) -> Iterator[tuple[DeclaredCommand | DeclaredSubscription, Callable[..., Any]]]:
    """All declarations of ``daemon``, with the bound methods."""
    for name in dir(type(daemon)):
        for fact in getattr(getattr(type(daemon), name, None), _MARK, ()):
            yield fact, getattr(daemon, name)


@attrs.frozen
class Parameter:
    """One parameter of a command, for help texts."""

    name: str
    type: str
    required: bool


class Signature:
    """The parameters of a command, and their check.

    Raises:
      ConfigurationError: a parameter has no annotation, cannot be passed by name, or is called ``deadline``.
    """

    def __init__(self, name: str, handler: Callable[..., Any]) -> None:
        self.name = name
        self.summary = (inspect.getdoc(handler) or "").partition("\n")[0].rstrip(".")
        hints = get_type_hints(handler, include_extras=True)
        fields: list[Any] = []
        self.parameters: list[Parameter] = []
        for parameter in inspect.signature(handler).parameters.values():
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
        """Check and convert the parameters of a caller.

        Args:
          given: the caller's parameters.
          lax: accept text for numbers and other simple types, as a command line sends it.

        Returns:
          The parameters for the handler, with defaults filled in.

        Raises:
          CommandRejected: a parameter is missing, unknown or of the wrong type; the error names it.
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
        raise ConfigurationError(f"{command}: parameter {name!r} has no annotation", "annotate it")
    if name == "deadline":
        raise ConfigurationError(
            f"{command}: the name {name!r} is reserved for the deadline of a call", "use current_deadline()"
        )
