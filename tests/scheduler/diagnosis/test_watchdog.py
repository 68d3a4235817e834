"""The watchdog with real threads and steps: checks the order of events, never their times."""

import logging
import threading
import time

import pytest
import trio
import trio.lowlevel

from rtos.scheduler import open_scheduler
from rtos.scheduler.diagnosis.busy_poll import PollingDetector, PollingReport
from rtos.scheduler.diagnosis.watchdog import Cause, LateWakeUp, LongStep, Sample, Watchdog
from rtos.scheduler.policy.context import SchedulingContext


def burn(seconds):
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        pass


def block(seconds):
    threading.Event().wait(seconds)


async def watched_step(step, limit=0.03):
    """The events in order: reports, and the end of one long step of context ``hog``."""
    events = []
    async with open_scheduler(watchdog=limit, on_alarm=events.append) as scheduler:

        async def hog():
            step()
            events.append("step ended")

        async with trio.open_nursery() as nursery:
            with scheduler.context("hog", level=6):
                nursery.start_soon(hog, name="the hog")
        await trio.lowlevel.checkpoint()
    return events


def long_steps(events):
    # On a busy machine other steps may be long too.
    return [event for event in events if isinstance(event, LongStep) and event.context == "hog"]


async def test_long_step_is_reported_while_it_runs(caplog):
    with caplog.at_level(logging.WARNING, "rtos.watchdog"):
        events = await watched_step(lambda: burn(0.2))
    (report,) = long_steps(events)  # once, however long it takes
    assert events.index(report) < events.index("step ended")
    assert (report.context, report.level, report.limit) == ("hog", 6, 0.03)
    assert report.task == "the hog"
    assert report.running >= report.limit
    assert "in hog" in report.stack[0]  # the task's own frames, without the loop's below
    assert "in burn" in "".join(report.stack)
    assert "a step of 'hog' (level 6, task 'the hog') has been running for" in caplog.text


async def test_computing_and_blocking_steps_have_different_causes():
    (blocked,) = long_steps(await watched_step(lambda: block(0.3)))
    assert blocked.cause is Cause.BLOCKED
    # On a busy machine the thread may have waited for the CPU instead. A virtual machine that
    # loses its CPU looks blocked, but not every time.
    causes = []
    while not {Cause.COMPUTING, Cause.STARVED} & {*causes} and len(causes) < 6:
        (computing,) = long_steps(await watched_step(lambda: burn(0.3)))
        causes.append(computing.cause)
    assert {Cause.COMPUTING, Cause.STARVED} & {*causes}, causes


async def test_short_steps_are_not_reported():
    assert await watched_step(lambda: burn(0.002), limit=10) == ["step ended"]


async def test_exception_in_on_alarm_is_logged_and_watching_continues(caplog):
    seen = []

    def fail(alarm):
        seen.append(alarm)
        raise RuntimeError

    async with open_scheduler(watchdog=0.02, on_alarm=fail):
        for _ in range(2):
            await trio.lowlevel.checkpoint()
            burn(0.3)
        await trio.lowlevel.checkpoint()
    assert len([alarm for alarm in seen if isinstance(alarm, LongStep)]) >= 2
    assert "on_alarm raised" in caplog.text


async def test_thread_runs_only_while_a_watchdog_is_asked_for():
    before = threading.active_count()
    async with open_scheduler():
        assert threading.active_count() == before
    async with open_scheduler(watchdog=1), open_scheduler(watchdog=1):
        assert threading.active_count() == before + 1
    assert threading.active_count() == before


async def test_idle_loop_does_not_wake_the_thread():
    async with open_scheduler(watchdog=0.01) as scheduler:
        watchdog = scheduler._kernel.queue.recorder.watch
        looks, cpu = {}, {}

        async def look(name):
            looks[name], cpu[name] = watchdog.looks, time.process_time()

        await trio.sleep(0.1)  # until it has parked
        await look("before")
        await trio.sleep(0.3)  # thirty limits
        await look("after")
    assert looks["after"] - looks["before"] <= 3  # woken by the two wake-ups of this very test
    assert cpu["after"] - cpu["before"] < 0.1


async def test_watching_continues_after_the_loop_was_idle():
    events = []
    async with open_scheduler(watchdog=0.02, on_alarm=events.append):
        await trio.sleep(0.15)
        burn(0.15)
        events.append("step ended")
        await trio.lowlevel.checkpoint()
    kinds = [type(event) for event in events if not isinstance(event, LateWakeUp)]
    assert kinds[: kinds.index(str)] == [LongStep]


async def test_polling_daemon_is_reported_once():
    alarms = []
    async with open_scheduler() as scheduler, trio.open_nursery() as nursery:
        recorder = scheduler._kernel.queue.recorder
        polling = PollingDetector(rate=20, tiny=0.005, window=0.1)
        recorder.watch = watchdog = Watchdog(
            scheduler._kernel.queue, limit=0.5, on_alarm=alarms.append, polling=polling
        )
        watchdog.start()

        async def poll():
            while True:  # noqa: ASYNC110 - the very thing that is to be found
                await trio.sleep(0.002)

        with scheduler.context("busybody", level=5):
            nursery.start_soon(poll)
        await trio.sleep(0.5)
        nursery.cancel_scope.cancel()
        recorder.watch = None
        watchdog.stop()
    assert [alarm.name for alarm in alarms if isinstance(alarm, PollingReport)] == ["busybody"]


class FakeLoop:
    """A loop that is asleep, so that the watchdog waits at once."""

    passes = 0
    running = None
    asleep = True

    def step_age_ns(self):
        return 0

    def running_task(self):
        return "none"


def test_late_wake_ups_are_reported_at_most_once_a_second():
    reported, arrived = [], threading.Event()

    def note(alarm):
        reported.append(alarm)
        arrived.set()

    watchdog = Watchdog(FakeLoop(), limit=0.05, on_alarm=note)
    watchdog.start()
    watchdog.woke(10_000_000)  # within the limit
    for _ in range(5):
        watchdog.woke(80_000_000)
    assert arrived.wait(5)
    watchdog.stop()
    assert reported == [LateWakeUp(0.08)]
    assert str(reported[0]).startswith("the loop woke 0.080 s late")


def sample(wall=0, cpu=0, queued=0, process=0):
    return Sample(wall, cpu, queued, process)


@pytest.mark.parametrize(
    ("later", "cause"),
    [
        (sample(wall=100, cpu=50), Cause.COMPUTING),
        (sample(wall=100, cpu=10, queued=60), Cause.STARVED),
        (sample(wall=100, cpu=30, queued=35), Cause.STARVED),
        (sample(wall=100, cpu=10, process=80), Cause.INTERPRETER),
        (sample(wall=100, cpu=10, process=30), Cause.BLOCKED),
    ],
)
def test_cause_is_what_took_most_of_the_time(later, cause):
    assert sample().cause(later) is cause


def test_report_is_a_sentence_and_a_stack():
    report = LongStep("hog", 6, "the hog", 0.0512, 0.05, Cause.COMPUTING, ('  File "a.py", line 1, in f\n',))
    sentence, stack = str(report).splitlines()
    assert sentence == (
        "a step of 'hog' (level 6, task 'the hog') has been running for 0.051 s,"
        " longer than the limit of 0.05 s; it is computing"
    )
    assert stack == '  File "a.py", line 1, in f'


def test_contexts_have_unique_numbers():
    assert SchedulingContext("a").number != SchedulingContext("a").number
