"""Every error that a host can act on, sorted by whose fault it is.

Law: a class answers two questions, who was wrong and whether trying again is
safe. Fields come first and the text is made from them, so that a program never
has to parse a message. Texts are lower-case, name the operation and the value,
and end with a remedy after a semicolon.

This module must import nothing of the package.
"""

from __future__ import annotations

import attrs


class RtosError(Exception):
    """What a host can act on. Never raised itself."""

    def __str__(self) -> str:
        return self.message()

    def message(self) -> str:
        """The text, made from the fields; lower-case, with a remedy."""
        return type(self).__name__


@attrs.define(eq=False, str=False)
class Refused(RtosError):
    """Nothing happened, and trying again is safe."""

    target: str
    reason: str
    remedy: str = "try again later"

    def message(self) -> str:
        return f"{self.target} refused: {self.reason}; {self.remedy}"


class MailboxFull(Refused):
    """The mailbox had no room; the daemon never saw the message."""


class NotAdmitted(Refused):
    """Accepting the work would break a guarantee that was given to others."""


class Overloaded(Refused):
    """Shed after it was accepted, because something more urgent needed the room."""


@attrs.define(eq=False, str=False)
class CommandRejected(RtosError):
    """The caller sent something invalid; raised before delivery, nothing changed.

    ``parameter`` names the offending parameter, or is ``None`` when the whole
    command is meant.
    """

    command: str
    reason: str
    parameter: str | None = None
    remedy: str = "see `rtos help`"

    def message(self) -> str:
        where = f" parameter {self.parameter!r}:" if self.parameter else ""
        return f"{self.command}:{where} {self.reason}; {self.remedy}"


class UnknownCommand(CommandRejected):
    """No daemon serves a command of that name."""


class CallCycle(CommandRejected):
    """The call would wait for itself: the path leads back to a daemon that waits."""


@attrs.define(eq=False, str=False)
class CommandFailed(RtosError):
    """The daemon raised while it served the command; ``__cause__`` has the error."""

    command: str
    reason: str

    def message(self) -> str:
        return f"{self.command} failed: {self.reason}; see the cause, and the log of the daemon"


@attrs.define(eq=False, str=False)
class DeadlineMissed(RtosError):
    """Not answered in time.

    ``started`` says whether the daemon had begun; if not, nothing happened.
    ``late`` is how far past the deadline it was noticed, in seconds.
    """

    command: str
    started: bool
    late: float = 0.0

    def message(self) -> str:
        if self.started:
            return f"{self.command} missed its deadline while it ran, and was cancelled; allow more time"
        return f"{self.command} missed its deadline before it started; nothing happened, allow more time"


@attrs.define(eq=False, str=False)
class DaemonDown(RtosError):
    """The daemon is gone for good, or parked until an operator unparks it."""

    daemon: str
    reason: str
    restarts: int = 0

    def message(self) -> str:
        return (
            f"daemon {self.daemon!r} is down after {self.restarts} restarts: {self.reason};"
            " look at its crash report, and boot again unless it is parked"
        )


@attrs.define(eq=False, str=False)
class StoreError(RtosError):
    """A store could not do what it was asked; the data is as it was before."""

    operation: str
    reason: str
    remedy: str = "see the log"

    def message(self) -> str:
        return f"{self.operation}: {self.reason}; {self.remedy}"


class StoreBusy(StoreError):
    """Another process holds the database; trying again is safe."""


class StoreCorrupt(StoreError):
    """The file is not a database, or is damaged. It is never deleted."""


class StoreFull(StoreError):
    """No space left, or a limit of the file system was reached."""


class SchemaTooNew(StoreError):
    """Written by a newer version of this program; it is left untouched."""


class Conflict(StoreError):
    """The record exists already, or is not at the version that was expected."""


class NotFound(StoreError):
    """No such record."""


class ConfigurationError(RtosError):
    """The system cannot start as it is configured; nothing was changed."""

    def __init__(self, reason: str, remedy: str) -> None:
        super().__init__(reason, remedy)
        self.reason = reason
        self.remedy = remedy

    def message(self) -> str:
        return f"{self.reason}; {self.remedy}"


@attrs.define(eq=False, str=False)
class SchedulerClosed(RtosError):
    """A scheduler was used before its block began or after it ended, or closed during a wait.

    ``operation`` is what was attempted, or what waited. An operation that is refused
    with this error has changed nothing.
    """

    operation: str

    def message(self) -> str:
        return (
            f"{self.operation}: the scheduler is closed;"
            " use it only inside its `async with open_scheduler()` block"
        )


class UnsupportedTrio(ConfigurationError):
    """Trio's run loop is not shaped as the run queue needs it."""


class KernelBug(Exception):
    """An invariant of ours broke.

    Outside the tree on purpose, so that no ``except RtosError`` hides it.
    """
