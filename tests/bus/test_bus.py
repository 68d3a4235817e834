"""Daemons on the bus: commands, events, restarts, the control lane, and two runtimes in one process."""

import math
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from rtos.bus import Bus, command, on
from rtos.errors import (
    CommandFailed,
    CommandRejected,
    ConfigurationError,
    DaemonDown,
    DeadlineMissed,
    KernelBug,
    MailboxFull,
    NotFound,
    UnknownCommand,
)
from rtos.scheduler import PastIntensity, open_scheduler, open_supervisor
from rtos.scheduler.dispatch.current import current_deadline, current_level
from rtos.testing import TICK, spend


class Daemon:
    """A daemon that records what it does in ``trace``."""

    name = "example"
    level = 3
    workers = 1
    capacity = 16

    def __init__(self):
        self.trace = []
        self.opens = 0
        self.fails_to_open = ()
        self.bus = None

    @asynccontextmanager
    async def open(self, bus):
        self.bus = bus
        self.opens += 1
        self.trace.append("open")
        if self.opens in self.fails_to_open:
            msg = "cannot open"
            raise OSError(msg)
        try:
            yield
        finally:
            self.trace.append("close")

    @command("example/echo")
    async def echo(self, *, value: int, seconds: float = 0.0) -> int:
        """Return the value."""
        self.trace.append(value)
        await trio.sleep(seconds)
        return value

    @command("example/fail")
    async def fail(self, *, how: str) -> None:
        raise {
            "value": ValueError("inner"),
            "rtos": NotFound("example/fail", "no such thing"),
            "bug": KernelBug("broken"),
        }[how]

    @command("example/context")
    async def context(self) -> list[float]:
        return [current_level(), current_deadline()]

    @on("bad:*")
    async def crash(self, event) -> None:
        self.trace.append(event.name)
        if event.payload == "crash":
            raise RuntimeError(event.name)


class Other(Daemon):
    name = "other"
    level = 5

    # Overridden without a decorator, so not declared.
    echo = fail = context = crash = None

    @command("other/ask")
    async def ask(self, *, value: int) -> int:
        return await self.bus.commands.execute("example/echo", value=value)

    @command("other/context")
    async def ask_context(self) -> list[float]:
        return await self.bus.commands.execute("example/context")


@asynccontextmanager
async def open_bus(*daemons, **options):
    """A scheduler, a bus and a supervisor with the daemons as children."""
    async with AsyncExitStack() as stack:
        scheduler = await stack.enter_async_context(open_scheduler(reserve=0))
        bus = Bus(scheduler)
        specs = [stack.enter_context(bus.attach(daemon)) for daemon in daemons]
        bus.supervisor = await stack.enter_async_context(open_supervisor(scheduler, specs, **options))
        yield bus


async def test_attached_daemon_serves_its_commands(autojump_clock):
    daemon = Daemon()
    async with open_bus(daemon) as bus:
        assert await bus.commands.execute("example/echo", value=7) == 7
        assert [route.declared.name for route in bus.commands] == [
            "example/context",
            "example/echo",
            "example/fail",
        ]
        assert list(bus.ports) == ["example"]
    assert daemon.trace == ["open", 7, "close"]
    with pytest.raises(UnknownCommand, match="no daemon serves this command"):
        await bus.commands.execute("example/echo", value=7)
    assert bus.ports == {}


async def test_handler_error_becomes_command_failed_unless_it_is_ours(autojump_clock):
    async with open_bus(Daemon()) as bus:
        with pytest.raises(
            CommandFailed, match="^example/fail failed: ValueError: inner; see the cause"
        ) as caught:
            await bus.commands.execute("example/fail", how="value")
        assert isinstance(caught.value.__cause__, ValueError)
        with pytest.raises(NotFound, match="no such thing"):
            await bus.commands.execute("example/fail", how="rtos")
        with pytest.raises(CommandFailed, match="KeyError: 'x'"):
            await bus.commands.execute("example/fail", how="x")
        with pytest.raises(KernelBug, match="broken"):  # a bug must not be hidden
            await bus.commands.execute("example/fail", how="bug")
        assert await bus.commands.execute("example/echo", value=1) == 1


async def test_wrong_parameter_never_reaches_the_daemon(autojump_clock):
    daemon = Daemon()
    async with open_bus(daemon) as bus:
        with pytest.raises(CommandRejected, match="example/echo: parameter 'value': expected `int`"):
            await bus.commands.execute("example/echo", value="7")
        assert daemon.trace == ["open"]
        assert bus.ports["example"].queue.statistics.accepted == 0


async def test_level_and_deadline_pass_through_nested_commands(autojump_clock):
    async with open_bus(Daemon(), Other()) as bus:
        with bus.scheduler.context("client", level=1):
            assert await bus.commands.execute("other/context", deadline=9.0) == [1, 9.0]
        assert await bus.commands.execute("other/context") == [3, math.inf]


async def test_deadline_cancels_a_running_command(autojump_clock):
    async with open_bus(Daemon()) as bus:
        with pytest.raises(DeadlineMissed, match="example/echo missed its deadline while it ran"):
            await bus.commands.execute("example/echo", value=1, seconds=5.0, deadline=2.0)
        assert trio.current_time() == 2.0


async def test_second_daemon_with_the_same_command_or_name_is_refused(autojump_clock):
    class Twin(Daemon):
        name = "twin"

    async with open_scheduler() as scheduler:
        bus = Bus(scheduler)
        with bus.attach(Daemon()):
            with (
                pytest.raises(
                    ConfigurationError, match="daemons 'example' and 'twin' both declare 'example/"
                ),
                bus.attach(Twin()),
            ):
                pass
            assert list(bus.ports) == ["example"]
            with (
                pytest.raises(ConfigurationError, match="two daemons are named 'example'"),
                bus.attach(Daemon()),
            ):
                pass
            assert len(list(bus.commands)) == 3
        assert list(bus.commands) == []


async def test_daemon_with_impossible_settings_is_refused(autojump_clock):
    class Idle(Daemon):
        workers = 0

    class Roomless(Daemon):
        capacity = 0

    class Nowhere(Daemon):
        level = 9

    async with open_scheduler() as scheduler:
        bus = Bus(scheduler)
        for daemon, error, text in (
            (Idle(), ConfigurationError, "daemon 'example' has 0 workers; give it 1 or more"),
            (Roomless(), ValueError, "capacity 0 leaves no room"),
            (Nowhere(), ValueError, "level 9 does not exist"),
        ):
            with pytest.raises(error, match=text), bus.attach(daemon):
                pass
            assert bus.ports == {}
            assert list(bus.commands) == []


async def test_matching_event_reaches_its_handler(autojump_clock):
    daemon = Daemon()
    async with open_bus(daemon) as bus:
        assert bus.events.emit("bad:news") == 1
        assert bus.events.emit("good:news") == 0
        await wait_all_tasks_blocked()
        assert daemon.trace == ["open", "bad:news"]


async def test_event_handler_that_raises_restarts_the_daemon(autojump_clock):
    daemon = Daemon()
    async with open_bus(daemon) as bus:
        bus.events.emit("bad:news", "crash")
        await trio.sleep(1)
        assert daemon.trace == ["open", "bad:news", "close", "open"]
        (report,) = bus.supervisor.reports
        assert (report.child, report.outcome) == ("example", "restarted")
        bus.events.emit("bad:again")
        await wait_all_tasks_blocked()
        assert daemon.trace[-1] == "bad:again"
        assert await bus.commands.execute("example/echo", value=1) == 1


async def test_waiting_calls_are_served_after_a_restart(autojump_clock):
    daemon = Daemon()
    results = []

    async def call(value, seconds=0.0):
        try:
            results.append(await bus.commands.execute("example/echo", value=value, seconds=seconds))
        except DaemonDown as down:
            results.append(str(down).partition(";")[0])

    async with open_bus(daemon) as bus, trio.open_nursery() as nursery:
        nursery.start_soon(call, 1, 100.0)
        await wait_all_tasks_blocked()
        for value in (2, 3):
            nursery.start_soon(call, value)
            await wait_all_tasks_blocked()
        bus.events.emit("bad:news", "crash")
        await trio.sleep(1)
        assert results == [
            "daemon 'example' is down after 0 restarts: it was stopped while it served this call",
            2,  # these two had not begun: the next run serves them
            3,
        ]


async def test_daemon_that_gives_up_answers_waiting_calls(autojump_clock):
    daemon = Daemon()
    daemon.fails_to_open = range(2, 99)
    results = []

    async def call():
        try:
            await bus.commands.execute("example/echo", value=1, seconds=9.0)
        except DaemonDown as down:
            results.append(down.daemon)

    async with trio.open_nursery() as nursery:
        with pytest.raises(DaemonDown, match="OSError: cannot open"):  # noqa: PT012
            async with open_bus(daemon) as bus:
                for _ in range(3):
                    nursery.start_soon(call)
                await wait_all_tasks_blocked()
                bus.events.emit("bad:news", "crash")
                await trio.sleep_forever()
    assert results == ["example"] * 3


async def test_leaving_finishes_accepted_calls(autojump_clock):
    daemon = Daemon()
    results = []

    async def call(value):
        results.append(await bus.commands.execute("example/echo", value=value, seconds=1.0))

    async with trio.open_nursery() as nursery:
        async with open_bus(daemon) as bus:
            for value in range(3):
                nursery.start_soon(call, value)
                await wait_all_tasks_blocked()
        assert trio.current_time() == 3.0
    assert results == [0, 1, 2]


async def test_call_to_a_stopped_daemon_raises_daemon_down(autojump_clock):
    daemon, other = Daemon(), Other()
    answers = []

    async def late_call():
        try:
            await bus.commands.execute("other/ask", value=1)
        except DaemonDown as down:
            answers.append(down.daemon)

    async with trio.open_nursery() as nursery:  # noqa: SIM117 - the callers outlive the daemons
        async with open_bus(daemon, other) as bus:
            # It runs while the daemons are stopped, ``other`` first.
            nursery.start_soon(bus.commands.send, "example/echo", {"value": 2, "seconds": 3.0})
            await wait_all_tasks_blocked()

            async def later():
                await trio.sleep(1)
                await late_call()

            nursery.start_soon(later)
    assert answers == ["other"]


async def test_daemon_stopped_before_its_first_step_ends_at_once(autojump_clock):
    class Slow(Daemon):
        @asynccontextmanager
        async def open(self, bus):
            await trio.sleep(1)
            async with super().open(bus):
                yield

    with trio.move_on_after(0.5) as scope:
        async with open_bus(Slow()):
            pass
    assert scope.cancelled_caught
    assert trio.current_time() == 1.0  # it opened and closed at once, without waiting for the shutdown limit


async def test_daemon_with_four_workers_serves_four_commands_at_once(autojump_clock):
    class Wide(Daemon):
        workers = 4

    async with open_bus(Wide()) as bus, trio.open_nursery() as nursery:
        for value in range(4):
            nursery.start_soon(bus.commands.send, "example/echo", {"value": value, "seconds": 1.0})
        await trio.sleep(0.5)
        names = {account.name for account in bus.scheduler.statistics().contexts}
        assert {f"example#{number}" for number in range(4)} <= names
        await trio.sleep(0.5)
        await wait_all_tasks_blocked()
        assert bus.ports["example"].queue.statistics.handled == 4


async def test_two_runtimes_in_one_process_are_independent(autojump_clock):
    one, two = Daemon(), Daemon()
    async with open_bus(one) as first, open_bus(two) as second:
        assert await first.commands.execute("example/echo", value=1) == 1
        assert await second.commands.execute("example/echo", value=2) == 2
        assert first.events.emit("bad:one") == 1
        await wait_all_tasks_blocked()
        assert one.trace == ["open", 1, "bad:one"]
        assert two.trace == ["open", 2]
    assert two.trace == ["open", 2, "close"]


async def test_past_intensity_of_the_daemon_reaches_its_specification():
    class Parking(Daemon):
        name = "parking"
        past_intensity = PastIntensity.PARK

    async with open_scheduler() as scheduler:
        bus = Bus(scheduler)
        with bus.attach(Daemon()) as plain:
            assert plain.past_intensity is PastIntensity.ESCALATE
        with bus.attach(Parking()) as parking:
            assert parking.past_intensity is PastIntensity.PARK


async def test_call_to_a_parked_daemon_names_unpark_and_unpark_restores_service(autojump_clock):
    async with open_scheduler() as scheduler:
        bus, daemon = Bus(scheduler), Daemon()
        with bus.attach(daemon) as spec:
            async with open_supervisor(scheduler, [spec]) as supervisor, trio.open_nursery() as nursery:
                nursery.start_soon(partial(bus.commands.execute, "example/echo", value=1, seconds=2))
                await wait_all_tasks_blocked()
                nursery.start_soon(supervisor.park, "example")
                await wait_all_tasks_blocked()
                # The first call comes while the daemon finishes accepted calls; it must not wait forever.
                for _ in range(2):
                    with pytest.raises(DaemonDown, match="parked until `daemon/unpark example` .by hand."):
                        await bus.commands.execute("example/echo", value=2)
                daemon.fails_to_open = (2,)
                with pytest.raises(DaemonDown, match="it did not start: OSError: cannot open"):
                    await supervisor.unpark("example")
                with pytest.raises(DaemonDown, match=r"parked until .* \(it did not start: OSError"):
                    await bus.commands.execute("example/echo", value=3)
                await supervisor.unpark("example")
                assert await bus.commands.execute("example/echo", value=4) == 4
        assert daemon.trace == ["open", 1, "close", "open", "open", 4, "close"]


# The control lane.


class Controlled(Daemon):
    """A daemon with a control lane; its commands use CPU time in steps of two ticks."""

    name = "controlled"
    capacity = 4

    def __init__(self):
        super().__init__()
        self.limit = 10

    @command("controlled/burn")
    async def burn(self) -> int:
        """Take ten steps."""
        for _ in range(10):
            spend(2 * TICK)
            await trio.lowlevel.checkpoint()
        return self.limit

    @command("controlled/configure", control=True)
    async def configure(self, *, limit: int) -> int:
        """Change the limit."""
        self.limit = limit
        return current_level()


async def _burn_forever(bus, full):
    while True:
        try:
            await bus.commands.execute("controlled/burn")
        except MailboxFull:
            full.append(trio.current_time())
            await trio.sleep(TICK)


async def test_control_command_is_answered_within_one_step_while_the_mailbox_is_full(autojump_clock):
    full, waits = [], []
    async with open_bus(Controlled()) as bus, trio.open_nursery() as nursery:
        for _ in range(12):
            with bus.scheduler.context("client", level=2):
                nursery.start_soon(_burn_forever, bus, full)
        with bus.scheduler.context("operator", level=1):
            for limit in range(20):
                await trio.sleep(7.3 * TICK)
                began = trio.current_time()
                assert await bus.commands.execute("controlled/configure", limit=limit) == 0
                waits.append((trio.current_time() - began) / TICK)
        assert full
        assert bus.ports["controlled"].queue.statistics.high_water == 4
        assert bus.controls["controlled"].queue.statistics.refused == 0
        nursery.cancel_scope.cancel()
    assert max(waits) <= 2


async def test_control_command_is_served_while_the_daemon_is_suspended(autojump_clock):
    daemon = Controlled()
    async with open_bus(daemon) as bus, trio.open_nursery() as nursery:
        bus.ports["controlled"].suspend()
        nursery.start_soon(bus.commands.execute, "controlled/burn")
        await wait_all_tasks_blocked()
        assert await bus.commands.execute("controlled/configure", limit=3) == 0
        assert daemon.limit == 3
        bus.ports["controlled"].resume()


async def test_control_command_to_a_parked_daemon_raises_daemon_down(autojump_clock):
    async with open_bus(Controlled()) as bus:
        await bus.supervisor.park("controlled")
        with pytest.raises(DaemonDown, match="controlled"):
            await bus.commands.execute("controlled/configure", limit=3)
        await bus.supervisor.unpark("controlled")
        assert await bus.commands.execute("controlled/configure", limit=3) == 0
