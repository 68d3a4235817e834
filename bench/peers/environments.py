"""Makes a peer's program ready to run: its environment, or its build. All of it lies under `.bench/`.

Nothing is made twice: a folder is named after what it was made from, and a stamp says
that it was finished. Python packages come pinned, by hash, through pip; Go and Erlang
are used where they are found, and fetched by the system's own packages only when asked.

    python -m bench.peers.environments          make all that can be made, and say what cannot
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

from bench.peers.catalogue import PEERS, Peer

if TYPE_CHECKING:
    from collections.abc import Callable

ROOT: Final = Path(__file__).parents[2] / ".bench"
PATIENCE: Final = 600.0
"""Seconds that one installation or one build may take."""


class Skipped(Exception):
    """A peer cannot be measured here.

    Attributes:
      reason: one word, for the table.
      detail: what was tried and what it said, for people.
    """

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason = reason
        self.detail = detail


def command(peer: Peer, *, install: bool = False) -> list[str]:
    """The words that run the peer's program, before its scenario and seconds.

    Args:
      peer: whose program.
      install: whether the system's packages may be asked for a tool that is missing; needs root.

    Raises:
      Skipped: ``missing`` without its tool or its program, ``uninstallable`` or ``unbuildable``
        when making it failed.
    """
    if not peer.program.exists():
        raise Skipped("missing", f"no program {str(peer.program)!r}")
    if peer.tool != "python" and shutil.which(peer.tool) is None:
        if not (install and peer.package):
            raise Skipped("missing", f"no {peer.tool!r} on this machine; try --install as root")
        _install(peer.package)
    return [*_MAKERS[peer.program.suffix](peer), *peer.arguments]


def surroundings() -> dict[str, str]:
    """The environment of every program and build: nothing of ours leaks in, nothing is fetched unasked."""
    ours = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    go = {"GO111MODULE": "off", "GOPROXY": "off", "GOTOOLCHAIN": "local", "GOCACHE": str(ROOT / "go-cache")}
    return ours | go | {"ERL_CRASH_DUMP": os.devnull}


def _python(peer: Peer) -> list[str]:
    flags = ["-E", "-s", str(peer.program)]
    if peer.requirements is None:
        return [sys.executable, *flags]
    if not peer.requirements.exists():
        raise Skipped("missing", f"no requirements {str(peer.requirements)!r}")

    def make(place: Path) -> None:
        _do("uninstallable", [sys.executable, "-m", "venv", "--without-pip", str(place)])
        # Our pip serves as well, and a second one takes two seconds to install.
        pip = [sys.executable, "-m", "pip", "--python", str(place / "bin" / "python")]
        options = ["--quiet", "--disable-pip-version-check", "--require-hashes", "--no-deps"]
        _do("uninstallable", [*pip, "install", *options, "-r", str(peer.requirements)])

    place = _made(peer.name, peer.requirements.read_bytes() + sys.version.encode(), make)
    return [str(place / "bin" / "python"), *flags]


def _go(peer: Peer) -> list[str]:
    def make(place: Path) -> None:
        _do("unbuildable", ["go", "build", "-o", str(place / peer.name), str(peer.program)])

    return [str(_made(peer.name, peer.program.read_bytes(), make) / peer.name)]


def _erlang(peer: Peer) -> list[str]:
    def make(place: Path) -> None:
        _do("unbuildable", ["erlc", "-o", str(place), str(peer.program)])

    place = _made(peer.name, peer.program.read_bytes(), make)
    return ["erl", "-noinput", "-pa", str(place), "-s", peer.program.stem, "main", "-extra"]


_MAKERS: Final[dict[str, Callable[[Peer], list[str]]]] = {".py": _python, ".go": _go, ".erl": _erlang}


def _made(name: str, source: bytes, make: Callable[[Path], None]) -> Path:
    """The folder made from just this source; an unfinished one is made anew."""
    place = ROOT / f"{name}-{hashlib.sha256(source).hexdigest()[:12]}"
    stamp = place / "finished"
    if not stamp.exists():
        shutil.rmtree(place, ignore_errors=True)
        place.mkdir(parents=True)
        # It lies in the checkout, where neither git nor a linter is to look into it.
        (ROOT / ".gitignore").write_text("*\n")
        make(place)
        stamp.touch()
    return place


def _install(package: str) -> None:
    if os.geteuid() != 0:
        raise Skipped("missing", f"{package!r} can be installed by root only")
    apt = ["env", "DEBIAN_FRONTEND=noninteractive", "apt-get"]
    _do("uninstallable", [*apt, "update", "-qq"])
    _do("uninstallable", [*apt, "install", "-qq", "-y", "--no-install-recommends", package])


def _do(reason: str, words: list[str]) -> None:
    try:
        subprocess.run(
            words, check=True, capture_output=True, text=True, timeout=PATIENCE, env=surroundings()
        )
    except subprocess.CalledProcessError as error:
        said = (error.stderr or error.stdout).strip().splitlines() or ["nothing"]
        raise Skipped(reason, f"{words[0]} exited with {error.returncode} and said {said[-1]!r}") from error
    except (OSError, subprocess.TimeoutExpired) as error:
        raise Skipped(reason, str(error)) from error


def main() -> None:
    """Make everything, and say how it went."""
    for peer in PEERS.values():
        try:
            print(f"{peer.name:20} {' '.join(command(peer, install='--install' in sys.argv))}")
        except Skipped as skipped:
            print(f"{peer.name:20} skipped: {skipped}")


if __name__ == "__main__":
    main()
