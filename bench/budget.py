"""Budgets and targets: what is asserted, and what is aimed at, all of it from ``budgets.toml``.

Law: a budget is a ratio of two figures of one run, or one figure that has no unit
of real time (``share_``, ``count_``, ``virtual_``, ``kib_``). A target that CI does not
assert may bound CPU time too (``cpu_``). Bounds on seconds of a wall clock cannot be
written down: on a shared machine they would assert the neighbours.

Pure, but for ``load``, which reads one file.
"""

from __future__ import annotations

import statistics
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import attrs

if TYPE_CHECKING:
    from collections.abc import Container, Iterable, Mapping

    from bench.harness import Measurement, Run

BUDGETS: Final = Path(__file__).with_name("budgets.toml")
UNITLESS: Final = ("share_", "count_", "virtual_", "kib_")
CPU: Final = "cpu_"
_FIELDS: Final = frozenset(
    ["benchmark", "numerator", "denominator", "at_most", "at_least", "reason", "ci", "target", "analysis"]
)


@attrs.frozen
class Figure:
    """Which figure of which variant; written ``variant:figure``."""

    variant: str
    name: str

    @classmethod
    def parse(cls, text: str) -> Figure:
        """Read ``variant:figure``.

        Raises:
          ValueError: there is no variant, or no figure.
        """
        variant, _, name = text.rpartition(":")
        if not variant or not name:
            msg = f"figure {text!r} names no variant or no figure; write 'variant:figure'"
            raise ValueError(msg)
        return cls(variant, name)

    def __str__(self) -> str:
        return f"{self.variant}:{self.name}"


@attrs.frozen(kw_only=True)
class Budget:
    """One bound, with the reason for it.

    Attributes:
      denominator: ``None`` if the numerator has no unit of real time.
      is_least: whether the bound is the least and not the most that is allowed.
      ci: whether ``--check`` looks at it, and fails where it is broken.
      is_target: whether it is one of the project's aims, shown met or not after each full run.
      analysis: of a target that is not met: where the time goes, and what was tried.
    """

    benchmark: str
    numerator: Figure
    denominator: Figure | None
    bound: float
    is_least: bool
    reason: str
    ci: bool = True
    is_target: bool = False
    analysis: str = ""

    def __str__(self) -> str:
        over = "" if self.denominator is None else f" / {self.denominator}"
        return f"{self.benchmark}: {self.numerator}{over}"

    @property
    def limit(self) -> str:
        """The bound in words."""
        return f"at {'least' if self.is_least else 'most'} {self.bound:,.10g}"

    @property
    def figures(self) -> tuple[Figure, ...]:
        """Those that it is measured by."""
        return (self.numerator,) if self.denominator is None else (self.numerator, self.denominator)


@attrs.frozen(kw_only=True)
class Verdict:
    """A budget held against a run."""

    budget: Budget
    measured: float
    attribution: str = ""

    @property
    def is_met(self) -> bool:
        """Whether the bound holds; a figure that is no number breaks every bound."""
        if self.budget.is_least:
            return self.measured >= self.budget.bound
        return self.measured <= self.budget.bound

    @property
    def figure(self) -> str:
        """What was measured, for people."""
        return f"{self.measured:,.0f}" if self.measured >= 1000 else f"{self.measured:.4g}"

    def __str__(self) -> str:
        budget = self.budget
        kind = "target: " if budget.is_target else ""
        text = f"{kind}{budget}: {self.figure}, {budget.limit}"
        if self.is_met:
            return f"{text}: met"
        aim = "why it is aimed at" if budget.is_target else "why it is asserted"
        lines = [f"{text}: NOT MET", f"  {aim}: {budget.reason}"]
        lines += [f"  analysis: {budget.analysis}"] if budget.analysis else []
        lines += [f"  worst case: {self.attribution}"] if self.attribution else []
        return "\n".join(lines)


def load(text: str | None = None) -> list[Budget]:
    """Read the budgets, from the file beside this one by default.

    Raises:
      ValueError: a budget is incomplete, or bounds real time.
    """
    table = tomllib.loads(BUDGETS.read_text() if text is None else text)
    return [_read(row) for row in table.get("budget", [])]


def _read(row: Mapping[str, Any]) -> Budget:
    name = f"budget {dict(row)!r}"
    _check_fields(name, row)
    is_target = row.get("target", False)
    budget = Budget(
        benchmark=row["benchmark"],
        numerator=Figure.parse(row["numerator"]),
        denominator=Figure.parse(row["denominator"]) if "denominator" in row else None,
        bound=float(row["at_least"] if "at_least" in row else row["at_most"]),
        is_least="at_least" in row,
        reason=row["reason"],
        ci=row.get("ci", not is_target),
        is_target=is_target,
        analysis=row.get("analysis", ""),
    )
    # CI runs on any machine: there a second of CPU means nothing by itself.
    allowed = (*UNITLESS, CPU) if budget.is_target and not budget.ci else UNITLESS
    if budget.denominator is None and not budget.numerator.name.startswith(allowed):
        raise ValueError(f"{name} bounds an absolute figure; give a denominator, or a figure in {allowed}")
    return budget


def _check_fields(name: str, row: Mapping[str, Any]) -> None:
    if unknown := row.keys() - _FIELDS:
        raise ValueError(f"{name} has unknown fields {sorted(unknown)}; use {sorted(_FIELDS)}")
    if not row.get("benchmark") or not row.get("numerator") or not row.get("reason"):
        raise ValueError(f"{name} is incomplete; give benchmark, numerator and reason")
    if ("at_most" in row) == ("at_least" in row):
        raise ValueError(f"{name} needs one bound; give at_most or at_least")
    for field in ("ci", "target"):
        if not isinstance(row.get(field, False), bool):
            raise ValueError(f"{name}: {field} is {row[field]!r}; use true or false")  # noqa: TRY004
    if "analysis" in row and not row.get("target"):
        raise ValueError(f"{name} has an analysis and is no target; put it into the reason")


def check(budgets: Iterable[Budget], run: Run, *, optional: Container[str] = ()) -> list[Verdict]:
    """Hold a run to those of ``budgets`` that speak of it.

    Args:
      budgets: of any benchmark.
      run: what was measured.
      optional: variants that need not be there; who compares with one that is not has no verdict.

    Raises:
      KeyError: a budget names a variant or a figure that the run does not have.
    """
    there = run.rounds[0]
    return [
        _judge(budget, run)
        for budget in budgets
        if budget.benchmark == run.benchmark
        and not any(one.variant in optional and one.variant not in there for one in budget.figures)
    ]


def _judge(budget: Budget, run: Run) -> Verdict:
    # The ratio within each round: what slows a whole round down cancels out.
    ratios = [_ratio(budget, one) for one in run.rounds]
    attribution = run.medians()[budget.numerator.variant].attribution
    return Verdict(budget=budget, measured=statistics.median(ratios), attribution=attribution)


def _ratio(budget: Budget, one: Mapping[str, Measurement]) -> float:
    over = _figure(budget, budget.numerator, one)
    under = 1.0 if budget.denominator is None else _figure(budget, budget.denominator, one)
    return over / under if under else float("nan")


def _figure(budget: Budget, figure: Figure, one: Mapping[str, Measurement]) -> float:
    if figure.variant not in one:
        raise KeyError(f"{budget}: no variant {figure.variant!r}; there are {', '.join(one)}")
    return one[figure.variant].figure(figure.name)
