"""The control daemon over real sockets."""

from __future__ import annotations

import errno
import json
import logging
import stat
from contextlib import asynccontextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, ClassVar

import attrs
import pytest
import trio

from rtos.bus import Bus, command
from rtos.daemons.control import ControlDaemon
from rtos.daemons.control import daemon as module
from rtos.errors import CommandRejected, ConfigurationError, Conflict, DaemonDown, Refused
from rtos.scheduler import open_scheduler, open_supervisor

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    Connect = Callable[[Path], Awaitable["Peer"]]


class Probe:
    """Something to ask."""

    name: ClassVar[str] = "probe"
    level: ClassVar[int] = 2
    workers: ClassVar[int] = 4
    capacity: ClassVar[int] = 100

    def __init__(self) -> None:
        self.cancelled = trio.Event()
        self.started = trio.Event()
        self.go = trio.Event()

    @asynccontextmanager
    async def open(self, bus: Bus) -> AsyncIterator[None]:
        yield

    @command("probe/double")
    async def double(self, *, number: int) -> int:
        """Double a number."""
        return 2 * number

    @command("probe/hang")
    async def hang(self) -> None:
        """Wait until it is cancelled."""
        self.started.set()
        try:
            await trio.sleep_forever()
        finally:
            self.cancelled.set()

    @command("probe/wait")
    async def wait(self) -> str:
        """Wait until it may go on."""
        self.started.set()
        await self.go.wait()
        return "done"

    @command("probe/fail")
    async def fail(self) -> None:
        """Raise something that is not ours."""
        raise ValueError("secret")

    @command("probe/refuse")
    async def refuse(self) -> None:
        """Raise something that its caller is told in full."""
        raise Conflict("probe/refuse", "it is there", "choose another")


class Peer:
    """A client on a Trio stream."""

    def __init__(self, stream: trio.SocketStream) -> None:
        self.stream = stream
        self._buffer = b""

    async def send(self, **request: Any) -> None:
        await self.stream.send_all(json.dumps(request).encode() + b"\n")

    async def receive(self) -> dict[str, Any]:
        while b"\n" not in self._buffer:
            chunk = await self.stream.receive_some()
            if not chunk:
                raise EOFError
            self._buffer += chunk
        line, _, self._buffer = self._buffer.partition(b"\n")
        return json.loads(line)

    async def ask(self, **request: Any) -> dict[str, Any]:
        await self.send(**request)
        return await self.receive()


@asynccontextmanager
async def served(path: Path, probe: Probe | None = None, *, shutdown: float = 0.05) -> AsyncIterator[Bus]:
    async with open_scheduler(trace=4096) as scheduler:
        bus = Bus(scheduler)
        children = SimpleNamespace(supervisor=None)
        with bus.attach(probe or Probe()) as first, bus.attach(ControlDaemon(path, children)) as second:
            specs = [attrs.evolve(spec, shutdown=shutdown) for spec in (first, second)]
            async with open_supervisor(scheduler, specs, intensity=0) as children.supervisor:
                with trio.fail_after(30):
                    yield bus


@pytest.fixture
async def connect() -> AsyncIterator[Connect]:
    """Connects; every connection is closed after the test."""
    peers = []

    async def open_peer(path: Path) -> Peer:
        peers.append(Peer(await trio.open_unix_socket(path)))
        return peers[-1]

    yield open_peer
    for peer in peers:
        await peer.stream.aclose()


async def test_commands_are_answered(connect: Connect, tmp_path: Path) -> None:
    path = tmp_path / "c.sock"
    async with served(path):
        peer = await connect(path)
        assert await peer.ask(id=1, command="probe/double", params={"number": 4}) == {
            "id": 1,
            "ok": True,
            "result": 8,
        }
        # As a command line sends it.
        assert (await peer.ask(id=2, command="probe/double", params={"number": "4"}))["result"] == 8


async def test_only_the_owner_may_connect_and_the_file_goes_with_the_daemon(tmp_path: Path) -> None:
    path = tmp_path / "c.sock"
    async with served(path):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert stat.S_IMODE(tmp_path.stat().st_mode) == 0o700
    assert not path.exists()


async def test_a_file_that_a_dead_process_left_is_replaced(connect: Connect, tmp_path: Path) -> None:
    path = tmp_path / "c.sock"
    path.write_text("stale")
    async with served(path):
        assert (await (await connect(path)).ask(id=1, command="probe/double", params={"number": 1}))["ok"]


async def test_a_path_that_is_too_long_is_refused(tmp_path: Path) -> None:
    path = tmp_path / ("x" * 100) / "c.sock"
    with pytest.raises(DaemonDown, match="boot on a folder with a shorter path") as caught:
        async with served(path):
            pass
    assert isinstance(caught.value.__cause__, ConfigurationError)


@pytest.mark.parametrize(
    ("request_", "kind", "text"),
    [
        ({"command": "nonsense"}, "UnknownCommand", "no daemon serves this command"),
        ({"command": "probe/double", "params": {}}, "CommandRejected", "lacks the parameter"),
        ({"command": "probe/double", "params": {"number": "x"}}, "CommandRejected", "expected `int`"),
        ({"command": "probe/fail"}, "CommandFailed", "probe/fail failed: ValueError"),
        ({"command": "probe/hang", "timeout": 0.01}, "DeadlineMissed", "missed its deadline while it ran"),
        ({"subscribe": ["a::b"]}, "CommandRejected", "has the segment ''"),
    ],
)
async def test_errors_are_answered_and_the_connection_lives(
    request_: dict[str, Any], kind: str, text: str, connect: Connect, tmp_path: Path
) -> None:
    path = tmp_path / "c.sock"
    async with served(path):
        peer = await connect(path)
        reply = await peer.ask(id=1, **request_)
        assert reply["error"]["type"] == kind
        assert text in reply["error"]["message"]
        assert "Traceback" not in json.dumps(reply)
        assert (await peer.ask(id=2, command="probe/double", params={"number": 1}))["result"] == 2


async def test_a_malformed_line_is_answered_and_the_connection_lives(
    connect: Connect, tmp_path: Path
) -> None:
    path = tmp_path / "c.sock"
    async with served(path):
        peer = await connect(path)
        for line in (b"nonsense\n", b"\xff\xfe\n", b'{"id": 7}\n', b"[[[[\n"):
            await peer.stream.send_all(line)
            reply = await peer.receive()
            assert reply["error"]["type"] == "CommandRejected"
            assert reply["id"] == (7 if b"7" in line else None)
        assert (await peer.ask(id=2, command="probe/double", params={"number": 1}))["ok"]


async def test_a_line_without_end_is_refused(
    connect: Connect, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MAX_LINE", 1000)
    path = tmp_path / "c.sock"
    async with served(path):
        peer = await connect(path)
        await peer.stream.send_all(b"x" * 2000)
        assert "more than 1000 bytes" in (await peer.receive())["error"]["message"]
        with pytest.raises(EOFError):
            await peer.receive()


async def test_a_client_that_goes_away_cancels_what_it_asked_for(connect: Connect, tmp_path: Path) -> None:
    path, probe = tmp_path / "c.sock", Probe()
    async with served(path, probe):
        peer = await connect(path)
        await peer.send(id=1, command="probe/hang")
        await probe.started.wait()
        await peer.stream.aclose()
        await probe.cancelled.wait()


async def test_a_client_may_cancel(connect: Connect, tmp_path: Path) -> None:
    path, probe = tmp_path / "c.sock", Probe()
    async with served(path, probe):
        peer = await connect(path)
        await peer.send(id=1, command="probe/hang")
        await probe.started.wait()
        await peer.send(id=1, cancel=True)
        await probe.cancelled.wait()


async def test_requests_of_one_connection_do_not_wait_for_each_other(
    connect: Connect, tmp_path: Path
) -> None:
    path, probe = tmp_path / "c.sock", Probe()
    async with served(path, probe):
        peer = await connect(path)
        await peer.send(id=1, command="probe/hang")
        assert (await peer.ask(id=2, command="probe/double", params={"number": 3}))["id"] == 2
        assert "id 1 is under way" in (await peer.ask(id=1, command="probe/hang"))["error"]["message"]


async def test_too_many_requests_and_connections_are_refused(
    connect: Connect, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MAX_IN_FLIGHT", 2)
    monkeypatch.setattr(module, "MAX_CONNECTIONS", 1)
    path, probe = tmp_path / "c.sock", Probe()
    async with served(path, probe):
        peer = await connect(path)
        await peer.send(id=1, command="probe/hang")
        await peer.send(id=2, command="probe/hang")
        assert (await peer.ask(id=3, command="probe/hang"))["error"]["type"] == "Refused"
        assert "connections are open" in (await (await connect(path)).receive())["error"]["message"]


async def test_events_come_to_who_subscribed_in_order(connect: Connect, tmp_path: Path) -> None:
    path = tmp_path / "c.sock"
    async with served(path) as bus:
        peer = await connect(path)
        assert (await peer.ask(id="s", subscribe=["a:*"]))["ok"]
        for number in range(3):
            bus.events.emit("a:b", number)
        bus.events.emit("other", 1)
        assert [(await peer.receive())["event"]["payload"] for _ in range(3)] == [0, 1, 2]


@pytest.mark.parametrize("payload", [object(), "\ud800"])
async def test_an_event_that_cannot_be_told_ends_its_subscription_and_nothing_else(
    payload: object, connect: Connect, tmp_path: Path
) -> None:
    path = tmp_path / "c.sock"
    async with served(path) as bus:
        peer, other = await connect(path), await connect(path)
        for who in (peer, other):
            assert (await who.ask(id="s", subscribe=["a:*"]))["ok"]
        bus.events.emit("a:b", payload)
        for who in (peer, other):
            reply = await who.receive()
            assert (reply["id"], reply["error"]["type"]) == ("s", "KernelBug")
            assert "internal error" in reply["error"]["message"]
            # The connection lives, and the name is free again.
            assert (await who.ask(id="s", command="probe/double", params={"number": 1}))["result"] == 2


async def test_it_goes_on_when_there_were_no_files_left(
    connect: Connect, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    refused = []
    accept = trio.SocketListener.accept

    async def accept_later(listener: trio.SocketListener) -> trio.SocketStream:
        if len(refused) < 2:
            await trio.lowlevel.checkpoint()
            refused.append(True)
            raise OSError(errno.EMFILE, "Too many open files")
        return await accept(listener)

    monkeypatch.setattr(trio.SocketListener, "accept", accept_later)
    path = tmp_path / "c.sock"
    async with served(path):
        assert (await (await connect(path)).ask(id=1, command="probe/double", params={"number": 1}))["ok"]
        assert len(refused) == 2


async def test_a_connection_that_fails_does_not_take_the_others_with_it(
    connect: Connect, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "c.sock"
    async with served(path):
        peer = await connect(path)
        assert (await peer.ask(id=1, command="probe/double", params={"number": 1}))["ok"]

        async def fail(connection: object) -> None:
            await trio.lowlevel.checkpoint()
            raise RuntimeError("a defect")

        with monkeypatch.context() as patch:
            patch.setattr(module._Connection, "serve", fail)
            with pytest.raises(EOFError):
                await (await connect(path)).receive()
        assert (await peer.ask(id=2, command="probe/double", params={"number": 1}))["ok"]
        assert (await (await connect(path)).ask(id=3, command="probe/double", params={"number": 1}))["ok"]


@pytest.mark.parametrize(
    ("command", "logged"),
    [
        ("probe/fail", True),  # its cause is not told outside
        ("probe/refuse", False),  # the caller knows all there is, and the operator has done nothing
        ("nonsense", False),
    ],
)
async def test_only_what_the_client_is_not_told_is_logged(
    command: str, logged: bool, connect: Connect, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "c.sock"
    with caplog.at_level(logging.INFO, logger="rtos.control"):
        async with served(path):
            assert "error" in await (await connect(path)).ask(id=1, command=command)
    assert bool(caplog.records) is logged


async def test_two_clients_do_not_wait_for_each_other(connect: Connect, tmp_path: Path) -> None:
    path, probe = tmp_path / "c.sock", Probe()
    async with served(path, probe):
        waiting, other = await connect(path), await connect(path)
        await waiting.send(id=1, command="probe/wait")
        await probe.started.wait()
        assert (await other.ask(id=1, command="probe/double", params={"number": 2}))["result"] == 4
        probe.go.set()
        assert (await waiting.receive())["result"] == "done"


async def test_what_was_accepted_is_answered_while_it_stops(connect: Connect, tmp_path: Path) -> None:
    path, probe = tmp_path / "c.sock", Probe()
    async with trio.open_nursery() as nursery:
        stop = trio.Event()

        async def system() -> None:
            async with served(path, probe):
                probe_ready.set()
                await stop.wait()

        probe_ready = trio.Event()
        nursery.start_soon(system)
        await probe_ready.wait()
        peer = await connect(path)
        await peer.send(id=1, command="probe/wait")
        await probe.started.wait()
        stop.set()
        while path.exists():  # noqa: ASYNC110 - a file has no event; it goes when listening ends
            await trio.sleep(0.001)
        probe.go.set()
        assert (await peer.receive())["result"] == "done"
        with pytest.raises(EOFError):
            await peer.receive()


async def test_a_client_that_asks_for_nothing_does_not_hold_up_the_stop(
    connect: Connect, tmp_path: Path
) -> None:
    path = tmp_path / "c.sock"
    with trio.move_on_after(30) as too_long:
        async with served(path, shutdown=1000):
            peer = await connect(path)
            assert (await peer.ask(id=1, command="probe/double", params={"number": 1}))["ok"]
    assert not too_long.cancelled_caught
    with pytest.raises(EOFError):
        await peer.receive()


# Parking.


async def test_a_daemon_is_parked_and_unparked(connect: Connect, tmp_path: Path) -> None:
    path = tmp_path / "c.sock"
    async with served(path):
        peer = await connect(path)
        assert (await peer.ask(id=1, command="daemon/park", params={"name": "probe"}))["result"] is True
        error = (await peer.ask(id=2, command="probe/double", params={"number": 1}))["error"]
        assert (error["type"], error["daemon"]) == ("DaemonDown", "probe")
        assert "it is parked until `daemon/unpark probe` (by hand)" in error["message"]
        assert (await peer.ask(id=3, command="daemon/unpark", params={"name": "probe"}))["result"] is True
        assert (await peer.ask(id=4, command="probe/double", params={"number": 1}))["result"] == 2


async def test_what_waits_for_a_daemon_that_is_parked_is_answered(connect: Connect, tmp_path: Path) -> None:
    path, probe = tmp_path / "c.sock", Probe()
    async with served(path, probe):
        peer = await connect(path)
        await peer.send(id=1, command="probe/hang")
        await probe.started.wait()
        await peer.send(id=2, command="daemon/park", params={"name": "probe"})
        replies = {reply["id"]: reply for reply in [await peer.receive(), await peer.receive()]}
        assert replies[1]["error"]["type"] == "DaemonDown"
        assert replies[2]["result"] is True


@pytest.mark.parametrize(
    ("command", "name", "text"),
    [
        ("daemon/park", "control", "control could not be asked to unpark"),
        ("daemon/park", "x", "there is no daemon 'x'; there are probe, control"),
        ("daemon/unpark", "x", "there is no daemon 'x'; there are probe, control"),
        ("daemon/unpark", "probe", "'probe' is not parked"),
    ],
)
async def test_what_cannot_be_parked_or_unparked_is_said(
    command: str, name: str, text: str, connect: Connect, tmp_path: Path
) -> None:
    path = tmp_path / "c.sock"
    async with served(path):
        peer = await connect(path)
        error = (await peer.ask(id=1, command=command, params={"name": name}))["error"]
        assert (error["type"], error["parameter"]) == ("CommandRejected", "name")
        assert text in error["message"]
        assert (await peer.ask(id=2, command="probe/double", params={"number": 1}))["ok"]


async def test_where_nobody_supervises_nobody_is_parked(tmp_path: Path) -> None:
    for daemon in (
        ControlDaemon(tmp_path),
        ControlDaemon(tmp_path, SimpleNamespace(supervisor=None)),
    ):
        for order in (daemon.park, daemon.unpark):
            with pytest.raises(Refused, match="control refused: nobody supervises yet"):
                await order(name="probe")


async def test_it_does_not_wait_for_its_own_next_run_while_it_stops(connect: Connect, tmp_path: Path) -> None:
    path, probe = tmp_path / "c.sock", Probe()
    async with trio.open_nursery() as nursery:
        stop, ready = trio.Event(), trio.Event()

        async def system() -> None:
            # A command that hangs would hold it up for the limit, and fail the test.
            async with served(path, probe, shutdown=1000):
                ready.set()
                await stop.wait()

        nursery.start_soon(system)
        await ready.wait()
        peer = await connect(path)
        await peer.send(id=1, command="probe/wait")
        await probe.started.wait()
        stop.set()
        while path.exists():  # noqa: ASYNC110 - a file has no event; it goes when listening ends
            await trio.sleep(0.001)
        with trio.fail_after(30):
            error = (await peer.ask(id=2, command="daemon/park", params={"name": "probe"}))["error"]
        assert (error["type"], error["reason"]) == ("Refused", "it is being stopped")
        probe.go.set()
        assert (await peer.receive())["result"] == "done"


async def test_what_waits_for_its_own_next_run_is_refused_when_it_stops() -> None:
    executing = module._Executing()
    refused = []

    async def ask() -> None:
        with pytest.raises(Refused, match="control refused: it is being stopped") as caught, executing.own():
            await trio.sleep_forever()
        refused.append(caught.value)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(ask)
        nursery.start_soon(ask)
        await trio.testing.wait_all_tasks_blocked()
        executing.refuse_own()
    assert len(refused) == 2
    await ask()  # and so is what comes later


async def test_one_more_job_is_asked_for(tmp_path: Path) -> None:
    new = {"name": "new", "level": 1, "cost": 0.002, "period": 0.1, "due_within": 50.0, "step": 0.001}
    async with served(tmp_path / "c.sock") as bus:
        found = await bus.commands.execute("system/admit", **new)
        assert found["admitted"]
        assert found["bounds"]["new"] >= 0.002
        assert found["offender"] is None
        # What asks is a call too, and was traced.
        found = await bus.commands.execute("system/admit", **new)
        assert set(found["bounds"]) == {"new", "system/admit"}
        found = await bus.commands.execute("system/admit", **{**new, "due_within": 0.001})
        assert not found["admitted"]
        assert found["offender"] in ("new", "system/admit")


@pytest.mark.parametrize(
    ("wrong", "text"),
    [
        ({"level": 8}, "level 8 does not exist"),
        ({"cost": 0.0}, "job: cost is 0; use a whole number above 0"),
        ({"step": 1.0}, "use last_step <= longest_step <= cost"),
        ({"period": float("inf")}, "infinity"),
    ],
)
async def test_a_job_that_cannot_be_is_refused(tmp_path: Path, wrong: dict[str, Any], text: str) -> None:
    new = {"name": "new", "level": 1, "cost": 0.002, "period": 0.1}
    async with served(tmp_path / "c.sock") as bus:
        with pytest.raises(CommandRejected, match=text):
            await bus.commands.execute("system/admit", **{**new, **wrong})
