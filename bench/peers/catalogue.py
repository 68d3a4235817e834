"""Which systems are measured beside ours, and by which program.

Every program takes SCENARIO and SECONDS and prints one line of JSON. Plain Trio
comes first: it is what the others are compared with.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

from attrs import frozen

HERE: Final = Path(__file__).parent
SCENARIOS: Final = ("round_trip", "round_trip_deadline", "round_trip_100", "fan_in", "tick")
BASE: Final = "trio"


@frozen
class Peer:
    """One system.

    Attributes:
      name: what the table calls it.
      program: the source of its program, under this folder; its suffix says how it is made to run.
      tool: what has to be found on this machine first; ``python`` is the one that runs us.
      package: what `--install` may ask the system's packages for, where the tool is missing.
      requirements: the pinned packages of its own environment; none is needed without.
      arguments: words before the scenario.
    """

    name: str
    program: Path
    tool: str = "python"
    package: str | None = None
    requirements: Path | None = None
    arguments: tuple[str, ...] = ()


def _python(name: str, program: str, *arguments: str, requires: str | None = None) -> Peer:
    needed = HERE / "requirements" / f"{requires}.txt" if requires else None
    return Peer(name, HERE / "python" / f"{program}.py", requirements=needed, arguments=arguments)


PEERS: Final = {
    peer.name: peer
    for peer in (
        _python("trio", "trio_peer"),
        _python("asyncio", "asyncio_peer"),
        _python("uvloop", "uvloop_peer", requires="uvloop"),
        _python("asynkit", "asynkit_peer", requires="asynkit"),
        _python("pykka", "pykka_peer", requires="pykka"),
        _python("thespian", "thespian_peer", requires="thespian"),
        _python("xoscar", "xoscar_peer", requires="xoscar"),
        _python("tractor", "tractor_peer", requires="tractor"),
        Peer("erlang", HERE / "erlang" / "bench_peer.erl", "erlc", "erlang-base"),
        Peer("go", HERE / "go" / "main.go", "go", "golang-go"),
        _python("reference", "reference_model"),
        _python("reference_cadence", "reference_model", "--cadence"),
    )
}
