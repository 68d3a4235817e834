"""docs/storage.md names every command, and none that there is not."""

import re
from pathlib import Path

from rtos.bus.declare import DeclaredCommand, declared
from rtos.daemons.data import DataDaemon, open_memory_backend

DOCUMENT = Path(__file__).parents[3] / "docs" / "storage.md"


def test_every_command_stands_in_the_document():
    daemon = DataDaemon((), open_memory_backend)
    there = {fact.name for fact, _ in declared(daemon) if isinstance(fact, DeclaredCommand)}
    assert set(re.findall(r"`(data/[a-z-]+)`", DOCUMENT.read_text())) == there
