"""What a system is booted with. Data, checked before anything starts."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal

import attrs

from rtos.errors import ConfigurationError

if TYPE_CHECKING:
    from rtos.user.embedding import Embedder

ROOT: Final = Path(".continuum")


def _positive(_: object, attribute: attrs.Attribute[float], value: float) -> None:
    if not value > 0:
        raise ConfigurationError(f"{attribute.name} is {value!r}", "use a number of seconds above 0")


@attrs.frozen(kw_only=True)
class Configuration:
    """The settings of one system.

    Attributes:
      root: the folder that holds all of it; made when it is not there.
      storage: ``sqlite``, durable, or ``memory``, gone when the system stops.
      drain_timeout: seconds in which a daemon may finish what it has accepted
        when the system stops.
      watchdog: seconds beyond which a step is reported while it runs; ``None``
        for no watchdog.
      owns_process: whether the process exists for this system. Then garbage
        collections are traced, and what boot has made is never looked at again
        by the collector; an embedded system leaves such things alone.
      socket: whether to open the control socket that the command line talks to.
      embedder: who makes vectors of memories, so that recall finds also what is near to a
        question; by default nobody, and recall goes by words. Faster with the extra ``vectors``.
      ordered: whether tasks run by level and deadline; ``False`` leaves them in Trio's
        own order, for a Trio that the run queue does not fit (``open_scheduler``).
    """

    root: Path = attrs.field(default=ROOT, converter=Path)
    storage: Literal["sqlite", "memory"] = "sqlite"
    drain_timeout: float = attrs.field(default=5.0, validator=_positive)
    watchdog: float | None = None
    owns_process: bool = False
    socket: bool = True
    embedder: Embedder | None = None
    ordered: bool = True
