"""Files of preferences, as the system takes them up: real files, and what the kernel tells of them."""

from __future__ import annotations

import errno
import json
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest
from living import World

from rtos.daemons.preferences import PreferencesDaemon
from rtos.daemons.watching import open_folder_watches
from rtos.errors import CommandRejected, StoreError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from rtos.bus import Bus
    from rtos.user.directory import UserDirectoryManager
    from rtos.user.preferences import PreferencesBook


class Preferring(World):
    """With files of preferences."""

    open_watches = staticmethod(open_folder_watches)

    def others(self, directories: UserDirectoryManager, book: PreferencesBook) -> list[Any]:
        self.book = book
        return [PreferencesDaemon(directories, book, open_watches=self.open_watches)]

    def file(self, user_id: str = "operator") -> Path:
        return self.root / "users" / user_id / "config" / "preferences.json"


@pytest.fixture
def world(tmp_path: Path) -> Preferring:
    return Preferring(tmp_path)


async def _tabs(bus: Bus, user_id: str = "operator") -> int:
    found = await bus.commands.execute("user/get", id=user_id)
    return found["preferences"]["max_open_tabs"]


linux = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="inotify is Linux's")


@linux
async def test_a_file_that_was_written_is_in_force_when_the_kernel_tells_of_it(world: Preferring) -> None:
    async with world.running() as bus:
        usual = await _tabs(bus)
        with bus.events.subscribe("user:preferences:changed") as told:
            world.file().write_text(json.dumps({"max_open_tabs": usual + 1}))
            changed = (await told.receive()).payload
            assert (changed["user_id"], changed["changed"]) == ("operator", ["max_open_tabs"])
            assert await _tabs(bus) == usual + 1
            assert await _tabs(bus, "helper-ai") != usual + 1
            world.file().unlink()
            await told.receive()
            assert await _tabs(bus) == usual


@linux
async def test_a_file_that_is_wrong_keeps_what_was_in_force_and_is_told_once(world: Preferring) -> None:
    async with world.running() as bus:
        with bus.events.subscribe("user:preferences:*") as told:
            world.file().write_text('{"max_open_tabs": 7}')
            await told.receive()
            world.file().write_text('{"max_open_tabs": 700}')
            rejected = await told.receive()
            assert rejected.name == "user:preferences:rejected"
            assert "max_open_tabs is 700; give 1 to 50" in rejected.payload["reason"]
            assert await _tabs(bus) == 7
            assert list(world.book.wrong()) == ["operator"]
            # Written again as it was, it is no news; the next that is told is its repair.
            world.file().write_text('{"max_open_tabs": 700}')
            world.file().write_text('{"max_open_tabs": 8}')
            assert (await told.receive()).payload["given"] == {"max_open_tabs": 8}
            assert world.book.wrong() == {}


@linux
async def test_who_is_made_while_the_system_runs_is_watched_too(world: Preferring) -> None:
    async with world.running() as bus:
        with bus.events.subscribe("user:preferences:changed") as told:
            await bus.commands.execute("user/create", type="human", name="Ann")
            # Asked for, so that the daemon has surely heard of it.
            assert (await bus.commands.execute("user/reload"))["read"] == 3
            world.file("ann").write_text('{"sync_devices": false}')
            assert (await told.receive()).payload["user_id"] == "ann"


async def test_a_command_changes_the_file(world: Preferring) -> None:
    async with world.running() as bus:
        ask = bus.commands.execute
        shown = await ask("user/preferences", id="operator", changes={"max_open_tabs": 9})
        assert (shown["preferences"]["max_open_tabs"], shown["given"]) == (9, {"max_open_tabs": 9})
        assert json.loads(world.file().read_text()) == {"max_open_tabs": 9}
        with pytest.raises(CommandRejected, match=r"user/preferences.*'colour' is not known"):
            await ask("user/preferences", id="operator", changes={"colour": "red"})
        with pytest.raises(CommandRejected, match="there is no user 'nobody'"):
            await ask("user/preferences", id="nobody")
        assert json.loads(world.file().read_text()) == {"max_open_tabs": 9}
    # It is read at the next start.
    async with world.running() as bus:
        assert await _tabs(bus) == 9
        await bus.commands.execute("user/preferences", id="operator", changes={"max_open_tabs": None})
        assert world.file().read_text() == "{}\n"


async def test_a_broken_file_is_not_written_over(world: Preferring) -> None:
    async with world.running() as bus:
        world.file().write_text("half of {")
        with pytest.raises(StoreError, match="no JSON object"):
            await bus.commands.execute("user/preferences", id="operator", changes={"max_open_tabs": 9})
        assert world.file().read_text() == "half of {"


async def test_where_nothing_can_be_watched_a_command_reads_them(
    world: Preferring, caplog: pytest.LogCaptureFixture
) -> None:
    @contextmanager
    def exhausted() -> Iterator[None]:
        raise OSError(errno.EMFILE, "nothing more can be watched; raise fs.inotify.max_user_instances")
        yield

    world.open_watches = exhausted  # type: ignore[method-assign]
    async with world.running() as bus:
        assert "preferences are not watched" in caplog.text
        world.file().write_text('{"max_open_tabs": 7}')
        done = await bus.commands.execute("user/reload", id="operator")
        assert done == {"read": 1, "changed": {"operator": ["max_open_tabs"]}, "wrong": {}}
        assert await _tabs(bus) == 7
