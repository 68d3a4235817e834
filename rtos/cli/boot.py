"""``boot``: a whole system, from its first daemon to its last breath."""

from __future__ import annotations

import json
import logging
import shlex
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import trio

from rtos.cli.check import load_system
from rtos.cli.exit_codes import FAILED, OK, WRONG
from rtos.cli.output import print_error
from rtos.errors import ConfigurationError, RtosError
from rtos.runtime import Configuration, Runtime, open_runtime
from rtos.scheduler.analysis import analyse
from rtos.user.embedding import LetterEmbedder

if TYPE_CHECKING:
    from rtos.cli.arguments import Invocation
    from rtos.scheduler.analysis import JobReport


WATCHDOG = 0.25
"""Seconds that one step may take before it is reported: what a person notices."""


def boot(invocation: Invocation) -> int:
    """Boot a system and keep it running until a signal ends it; returns the exit code."""
    known = {"embedder", "storage", "strict", "system", "unordered"}
    unknown = [*invocation.words, *(f"--{name}" for name in invocation.options if name not in known)]
    if unknown:
        takes = "--root=DIR, --storage=memory, --embedder=letters, --strict, --system=FILE and --unordered"
        return _refuse(f"boot does not take {unknown[0]!r}; it takes {takes}", invocation)
    logging.basicConfig(
        level=logging.WARNING, format="%(levelname)s %(name)s: %(message)s", stream=sys.stderr
    )
    storage = invocation.options.get("storage", "sqlite")
    if storage not in ("sqlite", "memory"):
        return _refuse(f"boot: there is no storage {storage!r}; use sqlite or memory", invocation)
    embedder = invocation.options.get("embedder", "none")
    if embedder not in ("none", "letters"):
        return _refuse(f"boot: there is no embedder {embedder!r}; use none or letters", invocation)
    unordered = bool(invocation.options.get("unordered"))
    if unordered and invocation.options.get("strict"):
        return _refuse("boot: --strict proves nothing of Trio's own order; leave out --unordered", invocation)
    configuration = Configuration(
        root=invocation.root,
        storage=storage,
        watchdog=WATCHDOG,
        owns_process=True,
        ordered=not unordered,
        embedder=LetterEmbedder() if embedder == "letters" else None,
    )
    show = _Lines() if invocation.json else _Text()
    try:
        _prove(invocation)
        trio.run(_run, configuration, show)
    except RtosError as error:
        print_error({"type": type(error).__name__, "message": str(error)}, json=invocation.json)
        return WRONG if isinstance(error, ConfigurationError) else FAILED
    show.stopped()
    return OK


def _refuse(message: str, invocation: Invocation) -> int:
    print_error({"type": "UsageError", "message": message}, json=invocation.json)
    return WRONG


def _prove(invocation: Invocation) -> None:
    """With ``--strict``: refuse to boot what cannot keep its deadlines.

    Raises:
      ConfigurationError: a deadline cannot be met, or the description is no good.
    """
    if not invocation.options.get("strict"):
        return
    path = Path(invocation.options.get("system", invocation.root / "system.toml"))
    system = load_system(path)
    report = analyse(system.jobs, reserve=system.reserve)
    late = [one for one in report.jobs if not one.feasible]
    if late:
        names = ", ".join(f"{one.job.name!r} ({_why(one)})" for one in late)
        raise ConfigurationError(
            f"not every deadline of {str(path)!r} can be met: {names}",
            f"`rtos check {path}` shows why; or boot without --strict",
        )


def _why(one: JobReport) -> str:
    return "too complex to analyse" if one.too_complex else f"mostly because of {one.offender!r}"


async def _run(configuration: Configuration, show: _Text | _Lines) -> None:
    with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(_until_signal, signals, nursery.cancel_scope, show)
                async with open_runtime(configuration, on_ready=show.ready) as runtime:
                    show.running(configuration, await _facts(runtime))
                    await trio.sleep_forever()
        except BaseExceptionGroup as group:
            error: BaseException = group
            # One group for each nursery that the error has come through.
            while isinstance(error, BaseExceptionGroup) and len(error.exceptions) == 1:
                error = error.exceptions[0]
            raise error from None


async def _until_signal(signals: Any, scope: trio.CancelScope, show: _Text | _Lines) -> None:
    """End the system at the first signal; at the second let the default end the process."""
    async for number in signals:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        show.stopping(signal.Signals(number).name)
        scope.cancel()
        return


async def _facts(runtime: Runtime) -> dict[str, Any]:
    users = await runtime.commands.execute("user/list", limit=500)
    rooms = await runtime.commands.execute("room/list", limit=500)
    return {
        "users": users["count"],
        "personas": sum(user["type"] == "persona" for user in users["items"]),
        "rooms": rooms["count"],
    }


def _python() -> str:
    """How a person calls this interpreter from here."""
    try:
        return str(Path(sys.executable).relative_to(Path.cwd()))
    except (ValueError, OSError):
        # Elsewhere, or there is no here any more.
        return sys.executable


class _Text:
    """For people."""

    def ready(self, daemon: str, took: float) -> None:
        print(f"  {daemon:11} ready after {took * 1000:7.1f} ms", flush=True)

    def running(self, configuration: Configuration, facts: dict[str, Any]) -> None:
        root = configuration.root
        counts = ", ".join(f"{count} {name}" for name, count in facts.items())
        print(f"running on {str(root)!r}: {counts}")
        print("in another terminal:")
        python, place = shlex.quote(_python()), shlex.quote(str(root))
        print(f"  {python} -m rtos chat/send --root={place} --wait 'what do you know?'")
        print("Ctrl-C stops it", flush=True)

    def stopping(self, signal_name: str) -> None:
        print(f"{signal_name}: finishing what was accepted; once more to stop at once", flush=True)

    def stopped(self) -> None:
        print("stopped", flush=True)


class _Lines:
    """For programs: one JSON object a line."""

    def ready(self, daemon: str, took: float) -> None:
        _line({"ready": daemon, "seconds": took})

    def running(self, configuration: Configuration, facts: dict[str, Any]) -> None:
        _line({"running": str(configuration.root), **facts})

    def stopping(self, signal_name: str) -> None:
        _line({"stopping": signal_name})

    def stopped(self) -> None:
        _line({"stopped": True})


def _line(value: dict[str, Any]) -> None:
    print(json.dumps(value), flush=True)
