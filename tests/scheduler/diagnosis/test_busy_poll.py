"""Which contexts are suspected of busy polling, and which are not."""

import pytest

from rtos.scheduler.diagnosis.busy_poll import PollingDetector, PollingReport
from rtos.scheduler.policy.context import SchedulingContext

SECOND = 1_000_000_000


def run(detector, context, *, seconds, rate, step_us, start=0, each=lambda: None):
    """Run ``rate`` steps of a context per second, and collect the reports."""
    reports = []
    for number in range(round(seconds * rate)):
        context.steps += 1
        context.cpu_ns += step_us * 1000
        each()
        reports += detector.see(context, start + round(number * SECOND / rate))
    return reports


def test_context_that_wakes_often_and_does_nothing_is_reported_once():
    context = SchedulingContext("busybody", level=5)
    (report,) = run(PollingDetector(), context, seconds=30, rate=100, step_us=12)
    assert isinstance(report, PollingReport)
    assert (report.name, report.level) == ("busybody", 5)
    assert report.rate == pytest.approx(100, rel=0.02)
    assert report.mean == pytest.approx(12e-6)
    assert str(report) == (
        "'busybody' (level 5) seems to poll: 100 steps per second of 12 µs, and no call;"
        " wait for an event or a deadline instead"
    )


@pytest.mark.parametrize(
    ("rate", "step_us", "reason"),
    [(15, 10, "seldom"), (100, 60, "it does something"), (3, 10, "hardly ever")],
)
def test_context_that_runs_rarely_or_works_is_not_reported(rate, step_us, reason):
    assert run(PollingDetector(), SchedulingContext("a"), seconds=30, rate=rate, step_us=step_us) == [], (
        reason
    )


@pytest.mark.parametrize("account", ["jobs", "billed_ns"])
def test_context_that_serves_or_sends_calls_is_not_reported(account):
    context = SchedulingContext("a")

    def work():
        setattr(context, account, getattr(context, account) + 1)

    assert run(PollingDetector(), context, seconds=30, rate=100, step_us=10, each=work) == []


def test_burst_is_not_reported():
    detector, context = PollingDetector(), SchedulingContext("a")
    assert run(detector, context, seconds=1, rate=100, step_us=10) == []
    assert run(detector, context, seconds=1, rate=1, step_us=10, start=20 * SECOND) == []


def test_kernel_is_not_reported():
    system = SchedulingContext("system")
    system.level = -1
    assert run(PollingDetector(), system, seconds=30, rate=100, step_us=10) == []


def test_one_poller_among_workers_is_found():
    detector, poller, worker = (
        PollingDetector(window=1),
        SchedulingContext("poller"),
        SchedulingContext("worker"),
    )
    reports = []
    for at in range(0, 3 * SECOND, SECOND // 100):
        poller.steps += 1
        poller.cpu_ns += 10_000
        worker.steps += 1
        worker.cpu_ns += 500_000
        reports += [*detector.see(poller, at), *detector.see(worker, at + 1)]
    assert [report.name for report in reports] == ["poller"]
