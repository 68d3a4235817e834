"""The tree of daemons: configuration, lock, order, two systems in one process."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import attrs
import pytest
import trio

from rtos import Configuration, Runtime, open_runtime
from rtos.daemons.activity import ActivityDaemon
from rtos.daemons.chat import ChatDaemon
from rtos.daemons.control import ControlDaemon
from rtos.daemons.data import DataDaemon
from rtos.daemons.health import HealthDaemon
from rtos.daemons.preferences import PreferencesDaemon
from rtos.daemons.users import UserDaemon
from rtos.errors import CommandRejected, ConfigurationError, DaemonDown, UnknownCommand
from rtos.runtime import RootLock
from rtos.scheduler.kernel import QUANTUM

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from rtos.bus import Bus, Commands


def _configured(root: Path) -> Configuration:
    return Configuration(root=root, socket=False)


async def test_a_root_that_no_socket_can_be_in_is_refused_before_anything_is_made(tmp_path: Path) -> None:
    root = tmp_path / ("x" * 100)
    with pytest.raises(ConfigurationError, match="has a name of more than 107 bytes; boot on a folder"):
        await open_runtime(Configuration(root=root)).__aenter__()
    assert list(tmp_path.iterdir()) == []
    async with open_runtime(_configured(root)) as system:
        assert system.supervisor.children()


async def test_daemons_come_up_in_order_and_are_gone_afterwards(tmp_path: Path) -> None:
    came: list[str] = []
    async with open_runtime(_configured(tmp_path), on_ready=lambda name, _: came.append(name)) as system:
        assert came == ["data", "chat", "tasks", "users", "health", "preferences", "activity"]
        assert all(child.ready for child in system.supervisor.children())
        answer = await system.commands.execute("ping")
        assert (answer["ready"], answer["pid"]) == (True, os.getpid())
    assert not any(child.running for child in system.supervisor.children())


async def test_a_thread_of_the_store_gets_its_turn_beside_a_busy_task(tmp_path: Path) -> None:
    interval, steps, enough = sys.getswitchinterval(), 0, 2_000_000

    async def busy() -> None:
        nonlocal steps
        while steps < enough:
            steps += 1
            await trio.lowlevel.checkpoint()

    async with open_runtime(attrs.evolve(_configured(tmp_path), owns_process=True)) as system:
        assert sys.getswitchinterval() < QUANTUM
        async with trio.open_nursery() as nursery:
            with system.scheduler.context("busy", level=6):
                nursery.start_soon(busy)
            for number in range(10):
                await system.commands.execute("data/store", key="turn", value=number)
            taken = steps
            nursery.cancel_scope.cancel()
    assert sys.getswitchinterval() == interval
    # With an interval above the quantum these writes were seen to take ten million steps and more.
    assert taken < enough / 4


async def test_a_system_runs_in_trios_own_order_where_that_is_asked_for(tmp_path: Path) -> None:
    async with open_runtime(attrs.evolve(_configured(tmp_path), ordered=False)) as system:
        assert not system.scheduler.ordered
        await system.commands.execute("user/create", type="human", name="Ann")
        found = await system.commands.execute("user/list")
        assert [user["id"] for user in found["items"]] == ["operator", "helper-ai", "ann"]


async def test_two_systems_in_one_loop_know_nothing_of_each_other(tmp_path: Path) -> None:
    async def users(system: Runtime) -> list[str]:
        found = await system.commands.execute("user/list")
        return [user["id"] for user in found["items"]]

    async with (
        open_runtime(_configured(tmp_path / "a")) as one,
        open_runtime(_configured(tmp_path / "b")) as two,
    ):
        with two.events.subscribe("data:*:*") as heard:
            await one.commands.execute("user/create", type="human", name="Ann")
            assert await users(one) == ["operator", "helper-ai", "ann"]
            assert await users(two) == ["operator", "helper-ai"]
            with trio.move_on_after(0.05):
                pytest.fail(f"it heard {await heard.receive()}")


async def test_a_root_has_one_system_at_a_time(tmp_path: Path) -> None:
    async with open_runtime(_configured(tmp_path)):
        with pytest.raises(ConfigurationError, match=f"as process {os.getpid()}; stop it first"):
            async with open_runtime(_configured(tmp_path)):
                pytest.fail("it is not open")
    async with open_runtime(_configured(tmp_path)):
        pass


def test_the_lock_goes_with_the_process_that_held_it(tmp_path: Path) -> None:
    program = (
        "import os, sys; from pathlib import Path; from rtos.runtime import RootLock\n"
        "with RootLock(Path(sys.argv[1])).hold(): os.kill(os.getpid(), 9)"
    )
    done = subprocess.run([sys.executable, "-c", program, tmp_path], check=False)
    assert done.returncode == -9
    with RootLock(tmp_path).hold():
        assert (tmp_path / "rtos.lock").read_text() == f"{os.getpid()}\n"


async def test_what_the_block_raises_comes_out_as_it_is(tmp_path: Path) -> None:
    with pytest.raises(LookupError, match="mine"):
        async with open_runtime(_configured(tmp_path)):
            raise LookupError("mine")
    with trio.move_on_after(5) as scope:
        async with open_runtime(_configured(tmp_path)) as system:
            scope.cancel()
            await trio.sleep_forever()
    assert scope.cancelled_caught
    assert not any(child.running for child in system.supervisor.children())


async def test_a_daemon_that_cannot_start_is_named(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "shared.db").write_text("this is no database" * 100)
    with pytest.raises(DaemonDown, match=r"daemon 'data' is down .* file is not a database"):
        async with open_runtime(_configured(tmp_path)):
            pytest.fail("it is not open")


async def test_memory_storage_leaves_no_database(tmp_path: Path) -> None:
    async with open_runtime(Configuration(root=tmp_path, storage="memory", socket=False)) as system:
        await system.commands.execute("chat/send", room="general", text="hello")
    assert not list(tmp_path.rglob("*.db"))


async def _is_told_that_it_is_parked(commands: Commands, name: str, **parameters: object) -> None:
    reason = ""
    while "parked until `daemon/unpark" not in reason:
        # Between two crashes one may be answered, or be cut off.
        try:
            await commands.execute(name, **parameters)
        except DaemonDown as down:
            reason = down.reason


async def test_a_daemon_that_crashes_always_is_parked_and_comes_back_when_it_is_unparked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened, defect = ChatDaemon.open, trio.Event()

    async def crash() -> None:
        await defect.wait()
        raise LookupError("a defect")

    @asynccontextmanager
    async def open_and_crash(daemon: ChatDaemon, bus: Bus) -> AsyncIterator[None]:
        async with opened(daemon, bus), trio.open_nursery() as nursery:
            nursery.start_soon(crash)
            yield
            nursery.cancel_scope.cancel()

    monkeypatch.setattr(ChatDaemon, "open", open_and_crash)
    async with open_runtime(Configuration(root=tmp_path)) as system:
        commands = system.commands
        await commands.execute("chat/send", room="general", text="before")
        defect.set()
        with trio.fail_after(30):
            await _is_told_that_it_is_parked(commands, "chat/history", room="general")
        # The daemons after it are started again; control is the last of them.
        with pytest.raises(CommandRejected, match="no daemon 'nobody'"):
            await commands.execute("daemon/unpark", name="nobody")
        answer = await commands.execute("ping")
        assert (answer["ready"], answer["parked"]) == (False, ["chat"])
        assert (await commands.execute("user/list"))["count"] == 2
        await commands.execute("data/store", key="k", value=1)
        state = {child.name: child for child in system.supervisor.children()}
        assert "a defect" in (state["chat"].reason or "")
        assert [name for name, child in state.items() if child.ready] == [
            "data",
            "tasks",
            "users",
            "health",
            "preferences",
            "activity",
            "control",
        ]
        defect = trio.Event()
        await commands.execute("daemon/unpark", name="chat")
        history = await commands.execute("chat/history", room="general")
        assert [message["text"] for message in history["items"]] == ["before"]
        assert (await commands.execute("ping"))["ready"] is True


def test_who_takes_the_system_down_and_who_is_parked() -> None:
    daemons = (
        DataDaemon,
        ChatDaemon,
        UserDaemon,
        HealthDaemon,
        PreferencesDaemon,
        ActivityDaemon,
        ControlDaemon,
    )
    assert {daemon.name: daemon.past_intensity.value for daemon in daemons} == {
        "data": "escalate",  # nobody else is of any use without it
        "chat": "park",
        "users": "park",
        "health": "park",
        "preferences": "park",
        "activity": "park",
        "control": "escalate",  # nobody could be unparked without it
    }


async def test_commands_go_with_the_system(tmp_path: Path) -> None:
    async with open_runtime(_configured(tmp_path)) as system:
        commands = system.commands
    with pytest.raises(UnknownCommand, match="no daemon serves this command"):
        await commands.execute("ping")


def test_settings_are_checked_before_anything_starts() -> None:
    with pytest.raises(ConfigurationError, match="drain_timeout is 0"):
        Configuration(drain_timeout=0)


async def test_the_socket_is_there_while_the_system_is(tmp_path: Path) -> None:
    async with open_runtime(Configuration(root=tmp_path)):
        assert (tmp_path / "control.sock").is_socket()
    assert not (tmp_path / "control.sock").exists()


async def test_two_systems_run_in_two_threads_at_once(tmp_path: Path) -> None:
    """The second is started from a task of the first, and inherits its context variables."""
    both = threading.Barrier(2)

    async def use(system: Runtime, name: str) -> None:
        for number in range(20):
            await trio.to_thread.run_sync(partial(both.wait, 30))
            await system.commands.execute("data/store", key="turn", value=[name, number])
            found = await system.commands.execute("data/read", key="turn")
            assert found["value"] == [name, number]

    async def second() -> None:
        async with open_runtime(_configured(tmp_path / "second")) as system:
            await use(system, "second")

    async with open_runtime(_configured(tmp_path / "first")) as system, trio.open_nursery() as nursery:
        with system.scheduler.context("starter", level=2):
            nursery.start_soon(trio.to_thread.run_sync, partial(trio.run, second))
            nursery.start_soon(use, system, "first")
