"""The errors that a program can handle, grouped by whose fault they are.

The class of an error says who was wrong and whether a retry is safe. Errors carry fields,
and the message is made from them, so a program never has to parse a message. A message is
lower-case, names the operation and the value, and ends with a remedy after a semicolon.

This module must not import any other module of the package.
"""

from __future__ import annotations

import attrs


class RtosError(Exception):
    """Base class of every error that a program can handle. Not raised itself."""

    def __str__(self) -> str:
        return self.message()

    def message(self) -> str:
        """The message, made from the fields: lower-case, with a remedy."""
        return type(self).__name__


@attrs.define(eq=False, str=False)
class Refused(RtosError):
    """The request was refused before anything happened; a retry is safe.

    Attributes:
      target: what refused it, for example a daemon.
      reason: why.
      remedy: what the caller can do.
    """

    target: str
    reason: str
    remedy: str = "try again later"

    def message(self) -> str:
        return f"{self.target} refused: {self.reason}; {self.remedy}"


class MailboxFull(Refused):
    """The mailbox is full; the daemon has not seen the message."""


class NotAdmitted(Refused):
    """Accepting the work could make other jobs miss their deadlines."""


@attrs.define(eq=False, str=False)
class CommandRejected(RtosError):
    """The command is invalid; raised before delivery, nothing changed.

    Attributes:
      command: its name.
      reason: what is wrong.
      parameter: the invalid parameter; ``None`` if the command as a whole is invalid.
      remedy: what the caller can do.
    """

    command: str
    reason: str
    parameter: str | None = None
    remedy: str = "see `rtos help`"

    def message(self) -> str:
        where = f" parameter {self.parameter!r}:" if self.parameter else ""
        return f"{self.command}:{where} {self.reason}; {self.remedy}"


class UnknownCommand(CommandRejected):
    """No daemon serves a command with this name."""


class CallCycle(CommandRejected):
    """The call would deadlock: a daemon on the path to it waits for its reply."""


@attrs.define(eq=False, str=False)
class CommandFailed(RtosError):
    """The daemon raised an error while it served the command.

    Attributes:
      command: its name.
      reason: the daemon's error as text; ``__cause__`` is the error itself.
    """

    command: str
    reason: str

    def message(self) -> str:
        return f"{self.command} failed: {self.reason}; see the cause, and the log of the daemon"


@attrs.define(eq=False, str=False)
class DeadlineMissed(RtosError):
    """The command was not answered by its deadline.

    Attributes:
      command: its name.
      started: whether the daemon had started to serve it; if not, nothing happened.
      late: seconds between the deadline and its detection.
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
    """The daemon has ended and will not be restarted, or is parked until an operator unparks it.

    Attributes:
      daemon: its name.
      reason: why it is down.
      restarts: how often it was restarted before.
    """

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
    """A storage operation failed; the data is unchanged.

    Attributes:
      operation: what was attempted.
      reason: why it failed.
      remedy: what the caller can do.
    """

    operation: str
    reason: str
    remedy: str = "see the log"

    def message(self) -> str:
        return f"{self.operation}: {self.reason}; {self.remedy}"


class StoreBusy(StoreError):
    """Another process has locked the database; a retry is safe."""


class StoreCorrupt(StoreError):
    """The file is damaged, or is not a database. It is never deleted."""


class StoreFull(StoreError):
    """The disk is full, or a limit of the file system was reached."""


class SchemaTooNew(StoreError):
    """The database was written by a newer version of this program; it is left unchanged."""


class Conflict(StoreError):
    """The record exists already, or does not have the expected version."""


class NotFound(StoreError):
    """No such record."""


class ConfigurationError(RtosError):
    """The configuration is invalid; nothing was changed.

    Attributes:
      reason: what is wrong.
      remedy: what to change.
    """

    def __init__(self, reason: str, remedy: str) -> None:
        super().__init__(reason, remedy)
        self.reason = reason
        self.remedy = remedy

    def message(self) -> str:
        return f"{self.reason}; {self.remedy}"


@attrs.define(eq=False, str=False)
class SchedulerClosed(RtosError):
    """A scheduler was used outside its ``async with`` block, or closed while a task waited for it.

    An operation that starts nothing because of this error has changed nothing.

    Attributes:
      operation: what was attempted, or what was waiting.
    """

    operation: str

    def message(self) -> str:
        return (
            f"{self.operation}: the scheduler is closed;"
            " use it only inside its `async with open_scheduler()` block"
        )


class UnsupportedTrio(ConfigurationError):
    """The run queue does not know the internals of this Trio version."""


class KernelBug(Exception):
    """An invariant of the kernel is broken.

    Not a subclass of ``RtosError``, so that ``except RtosError`` does not hide it.
    """
