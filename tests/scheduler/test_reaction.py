"""What a port does about its misses, beyond telling the caller. All in virtual time."""

import logging
import math

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from rtos.errors import DeadlineMissed, Overloaded, RtosError
from rtos.scheduler import (
    Backoff,
    ChildSpec,
    Kind,
    OnMiss,
    Reaction,
    current_level,
    open_scheduler,
    open_supervisor,
)


@pytest.fixture(params=[True, False], ids=["direct", "queued"])
async def scheduler(autojump_clock, request):
    async with open_scheduler(reserve=0, direct=request.param) as opened:
        yield opened


class Daemon:
    """One worker at level 2 that sleeps as long as the request says, or calls it."""

    def __init__(self, scheduler, nursery, on_miss):
        self.scheduler = scheduler
        self.port = scheduler.port("daemon", on_miss=on_miss)
        self.kinds = {name: Kind(name) for name in ("one", "other")}
        self.context = scheduler.context("daemon", level=2)
        self.outcomes = {}
        self.nursery = nursery
        with self.context:
            nursery.start_soon(self.serve)

    async def serve(self):
        await self.port.serve(self.body, context=self.context)

    async def body(self, request):
        if callable(request):
            return request()
        await trio.sleep(request)
        return request

    async def call(self, request, *, kind="one", timeout=math.inf):  # noqa: ASYNC109 - it becomes a deadline
        deadline = trio.current_time() + timeout
        return await self.port.call(self.kinds[kind], request, deadline=deadline)

    def send(self, name, *args, **options):
        async def note():
            try:
                self.outcomes[name] = await self.call(*args, **options)
            except RtosError as error:
                self.outcomes[name] = type(error)

        self.nursery.start_soon(note)


async def test_a_miss_is_logged_where_that_is_asked_for(scheduler, autojump_clock, caplog):
    async with trio.open_nursery() as nursery:
        daemon = Daemon(scheduler, nursery, OnMiss(Reaction.LOG))
        with caplog.at_level(logging.WARNING, "rtos.misses"), pytest.raises(DeadlineMissed):
            await daemon.call(5, timeout=1)
        assert caplog.messages == ["one missed its deadline at daemon"]
        assert await daemon.call(1) == 1
        nursery.cancel_scope.cancel()


async def test_the_next_of_its_kind_is_left_out_and_only_that(scheduler, autojump_clock):
    async with trio.open_nursery() as nursery:
        daemon = Daemon(scheduler, nursery, OnMiss(Reaction.SKIP))
        await wait_all_tasks_blocked()
        daemon.send("late", 5, timeout=2)
        for name, kind in (("other", "other"), ("skipped", "one"), ("kept", "one")):
            await wait_all_tasks_blocked()
            daemon.send(name, 1, kind=kind)
        await trio.sleep(20)
        assert daemon.outcomes == {"late": DeadlineMissed, "other": 1, "skipped": Overloaded, "kept": 1}
        assert daemon.port.queue.statistics.shed == 1
        assert daemon.port.queue.statistics.conserved()
        nursery.cancel_scope.cancel()


async def test_a_miss_in_the_queue_counts_like_one_while_it_runs(scheduler, autojump_clock):
    async with trio.open_nursery() as nursery:
        daemon = Daemon(scheduler, nursery, OnMiss(Reaction.SKIP))
        await wait_all_tasks_blocked()
        daemon.send("running", 5, kind="other")
        await wait_all_tasks_blocked()
        daemon.send("late", 1, timeout=2)
        daemon.send("skipped", 1)
        await trio.sleep(20)
        assert daemon.outcomes == {"running": 5, "late": DeadlineMissed, "skipped": Overloaded}
        nursery.cancel_scope.cancel()


async def test_a_daemon_is_degraded_until_it_has_met_its_deadlines_for_a_while(scheduler, autojump_clock):
    async with trio.open_nursery() as nursery:
        daemon = Daemon(scheduler, nursery, OnMiss(Reaction.DEGRADE, level=6, recovery=3))
        await wait_all_tasks_blocked()
        seen = []

        def look():
            seen.append((trio.current_time(), daemon.port.is_degraded, daemon.context.base_level))

        start = trio.current_time()
        await daemon.call(look)
        for kind in daemon.kinds:
            with pytest.raises(DeadlineMissed):
                await daemon.call(5, kind=kind, timeout=1)
        await daemon.call(look)
        await trio.sleep(2.9)
        await daemon.call(look)
        await trio.sleep(0.2)
        await daemon.call(look)
        assert [(round(at - start, 1), *rest) for at, *rest in seen] == [
            (0, False, 2),
            (2, True, 6),
            (4.9, True, 6),  # three seconds after the last miss, and not after the first
            (5.1, False, 2),
        ]
        nursery.cancel_scope.cancel()


async def test_who_calls_a_degraded_daemon_still_raises_it(scheduler, autojump_clock):
    async with trio.open_nursery() as nursery:
        daemon = Daemon(scheduler, nursery, OnMiss(Reaction.DEGRADE))
        with pytest.raises(DeadlineMissed):
            await daemon.call(5, timeout=1)
        assert daemon.context.base_level == 7
        assert await daemon.call(current_level) == scheduler.host_level
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize("where", ["while it runs", "in the queue", "before an idle daemon"])
async def test_a_daemon_that_misses_is_restarted_by_its_supervisor(scheduler, autojump_clock, where):
    port = scheduler.port("daemon", on_miss=OnMiss(Reaction.RESTART))
    kind, runs = Kind("work"), []

    async def body(seconds):
        await trio.sleep(seconds)
        return seconds

    async def run(ready):
        runs.append(trio.current_time())
        ready()
        context = scheduler.context("worker", level=2)
        with context:
            await port.serve(body, context=context)

    async with open_supervisor(
        scheduler, [ChildSpec(name="daemon", run=run)], backoff=Backoff(first=0.01)
    ) as supervisor:
        await wait_all_tasks_blocked()
        async with trio.open_nursery() as nursery:
            if where == "in the queue":
                nursery.start_soon(port.call, kind, 3)
                await wait_all_tasks_blocked()
            elif where == "before an idle daemon":
                await port.call(kind, 3)
            with pytest.raises(DeadlineMissed):
                await port.call(kind, 5, deadline=trio.current_time() + 1)
        await wait_all_tasks_blocked()
        assert len(runs) == 2
        (report,) = supervisor.reports
        assert isinstance(report.error, DeadlineMissed)
        assert await port.call(kind, 2) == 2
        assert port.queue.statistics.conserved()


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"level": 8}, "OnMiss: level 8 does not exist"),
        ({"recovery": 0}, "OnMiss: recovery 0 is no length of time; use seconds, above 0"),
        ({"recovery": math.inf}, "recovery inf"),
    ],
)
def test_what_cannot_be_is_refused(options, text):
    with pytest.raises(ValueError, match=text):
        OnMiss(Reaction.DEGRADE, **options)
