"""Published cases of response-time analysis, exact to the unit."""

from __future__ import annotations

import attrs
import pytest

from rtos.scheduler.analysis import Job, analyse, non_preemptive, preemptive, response, suggest_levels
from tests.support.demand import deadlines_suffice, jeffay


def _ranked(*rows: tuple[int, ...]) -> list[Job]:
    """Jobs from (cost, period[, deadline]), the most urgent first."""
    return [
        Job(name=f"t{level}", level=level, cost=row[0], period=row[1], deadline=row[2] if row[2:] else row[1])
        for level, row in enumerate(rows)
    ]


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        ([(1, 4), (1, 5), (3, 9), (3, 18)], [1, 2, 7, 18]),
        ([(5, 20), (10, 40), (40, 80)], [5, 15, 80]),  # Burns & Wellings, utilisation 1
        ([(3, 7), (3, 12), (5, 20)], [3, 6, 20]),  # Burns & Wellings
        # Lehoczky 1990: deadlines beyond the period; the first release is not the worst.
        ([(26, 70), (62, 100, 130)], [26, 118]),
    ],
)
def test_preemptive_bounds(rows: list[tuple[int, ...]], expected: list[int]) -> None:
    jobs = _ranked(*rows)
    assert [preemptive(job, jobs) for job in jobs] == expected


def test_non_preemptive_bounds() -> None:
    jobs = _ranked((20, 70), (20, 80), (35, 200))
    assert [non_preemptive(job, jobs) for job in jobs] == [54, 74, 75]
    assert [response(job, jobs) for job in jobs] == [54, 74, 75]


def test_first_release_is_not_the_worst() -> None:
    # Davis, Burns, Bril, Lukkien 2007: three messages of the same
    # length. The first release of the last message takes 300, and its second one 350.
    jobs = [
        Job(name="a", level=0, cost=100, period=250),
        Job(name="b", level=1, cost=100, period=350, deadline=325),
        Job(name="c", level=2, cost=100, period=350, deadline=325),
    ]
    assert non_preemptive(jobs[2], jobs) == 350


def test_bounds_with_steps() -> None:
    jobs = [
        attrs.evolve(job, longest_step=longest, last_step=last)
        for job, longest, last in zip(_ranked((4, 12), (6, 20), (8, 40)), (2, 3, 4), (2, 3, 3), strict=True)
    ]
    assert [response(job, jobs) for job in jobs] == [7, 13, 22]


def test_bounds_with_deadlines_inside_levels() -> None:
    rows = [(0, 2, 10, 10), (1, 3, 15, 12), (1, 4, 20, 20), (1, 2, 30, 30), (2, 5, 60, 60)]
    jobs = [
        Job(name=f"t{index}", level=level, cost=cost, period=period, deadline=deadline)
        for index, (level, cost, period, deadline) in enumerate(rows)
    ]
    assert [response(job, jobs) for job in jobs] == [6, 9, 13, 20, 18]


def test_jeffays_condition() -> None:
    assert jeffay(_ranked((2, 4), (3, 12)))
    assert not jeffay(_ranked((2, 4), (4, 12)))
    assert deadlines_suffice(_ranked((2, 4), (3, 12)))
    assert not deadlines_suffice(_ranked((2, 4), (4, 12)))


def test_utilisation_above_1_has_no_bound() -> None:
    jobs = _ranked((3, 4), (3, 8), (1, 100))
    assert preemptive(jobs[2], jobs) is None
    assert response(jobs[2], jobs) is None
    report = analyse(jobs)
    assert not report.feasible
    assert report.jobs[2].offender == "t0"


def test_suggested_levels_hold_where_deadline_order_fails() -> None:
    # In order of deadline the third job comes before the second, and the set fails.
    jobs = _ranked((2, 5, 4), (2, 10, 9), (2, 20, 8))
    levels = suggest_levels(jobs)
    assert levels is not None
    placed = [attrs.evolve(job, level=levels[job.name]) for job in jobs]
    assert analyse(placed).feasible


def test_step_budget_is_the_largest_step_that_holds() -> None:
    jobs = _ranked((20, 70, 60), (20, 80), (35, 200))
    report = analyse(jobs)
    budget = report.jobs[0].step_budget
    assert budget == 41  # 20 of its own, and 40 of a step that began one unit before
    assert report.step_bounds == {"t0": None, "t1": 41, "t2": 41}
    for length, feasible in ((41, True), (42, False)):
        changed = [*jobs[:2], attrs.evolve(jobs[2], cost=length, longest_step=length, last_step=length)]
        assert all(found.feasible for found in analyse(changed).jobs[:2]) is feasible
