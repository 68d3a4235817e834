"""Budgets: the bounds that are asserted, all of them from ``budgets.toml``.

Law: a budget is a ratio of two figures of one run, or one figure that has no unit
of real time (``share_``, ``count_``, ``virtual_``). Bounds on seconds of a wall
clock cannot be written down: on a shared machine they would assert the neighbours.

Pure, but for ``load``, which reads one file.
"""

from __future__ import annotations

import statistics
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import attrs

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from bench.harness import Measurement, Run

BUDGETS: Final = Path(__file__).with_name("budgets.toml")
UNITLESS: Final = ("share_", "count_", "virtual_")
_FIELDS: Final = {"benchmark", "numerator", "denominator", "at_most", "at_least", "reason", "ci"}


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
      ci: whether ``--check`` looks at it.
    """

    benchmark: str
    numerator: Figure
    denominator: Figure | None
    bound: float
    is_least: bool
    reason: str
    ci: bool

    def __str__(self) -> str:
        over = "" if self.denominator is None else f" / {self.denominator}"
        return f"{self.benchmark}: {self.numerator}{over}"


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

    def __str__(self) -> str:
        word = "at least" if self.budget.is_least else "at most"
        text = f"{self.budget}: {self.measured:.4g}, {word} {self.budget.bound:g}"
        if self.is_met:
            return f"{text}: met"
        why = f"\n  worst case: {self.attribution}" if self.attribution else ""
        return f"{text}: NOT MET\n  why it is asserted: {self.budget.reason}{why}"


def load(text: str | None = None) -> list[Budget]:
    """Read the budgets, from the file beside this one by default.

    Raises:
      ValueError: a budget is incomplete, or bounds real time.
    """
    table = tomllib.loads(BUDGETS.read_text() if text is None else text)
    return [_read(row) for row in table.get("budget", [])]


def _read(row: Mapping[str, Any]) -> Budget:
    name = f"budget {dict(row)!r}"
    if unknown := row.keys() - _FIELDS:
        raise ValueError(f"{name} has unknown fields {sorted(unknown)}; use {sorted(_FIELDS)}")
    if not row.get("benchmark") or not row.get("numerator") or not row.get("reason"):
        raise ValueError(f"{name} is incomplete; give benchmark, numerator and reason")
    if ("at_most" in row) == ("at_least" in row):
        raise ValueError(f"{name} needs one bound; give at_most or at_least")
    numerator = Figure.parse(row["numerator"])
    denominator = Figure.parse(row["denominator"]) if "denominator" in row else None
    if denominator is None and not numerator.name.startswith(UNITLESS):
        raise ValueError(f"{name} bounds an absolute figure; give a denominator, or a figure in {UNITLESS}")
    return Budget(
        benchmark=row["benchmark"],
        numerator=numerator,
        denominator=denominator,
        bound=float(row["at_least"] if "at_least" in row else row["at_most"]),
        is_least="at_least" in row,
        reason=row["reason"],
        ci=row.get("ci", True),
    )


def check(budgets: Iterable[Budget], run: Run) -> list[Verdict]:
    """Hold a run to those of ``budgets`` that speak of it.

    Raises:
      KeyError: a budget names a variant or a figure that the run does not have.
    """
    return [_judge(budget, run) for budget in budgets if budget.benchmark == run.benchmark]


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
