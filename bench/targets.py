"""How the project's aims are kept with a run, and shown: each met or RED, in one table.

The bound, the reason and the analysis are those of ``budgets.toml`` as it is now; what
was measured is what the run kept. Whoever was not measured is shown as such, and not as met.

Pure: verdicts and what was kept of them in, text out.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from bench.budget import Verdict

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from bench.budget import Budget


def keep(verdicts: Iterable[Verdict]) -> list[dict[str, Any]]:
    """What a run's JSON says of them."""
    return [
        {
            "what": str(one.budget),
            "target": one.budget.is_target,
            "bound": one.budget.bound,
            "is_least": one.budget.is_least,
            # JSON has no word for what is no number.
            "measured": None if math.isnan(one.measured) else one.measured,
            "met": one.is_met,
        }
        for one in verdicts
    ]


def markdown(budgets: Iterable[Budget], kept: Iterable[Mapping[str, Any]]) -> str:
    """The table of all targets, and below it why the red ones are."""
    found = {str(one["what"]): _number(one["measured"]) for one in kept}
    targets = [one for one in budgets if one.is_target]
    verdicts = {one: Verdict(budget=one, measured=found[str(one)]) for one in targets if str(one) in found}
    lines = ["### Targets", "", summary(list(verdicts.values()), of=len(targets)), ""]
    lines += ["| what | bound | measured | |", "| --- | --: | --: | --- |"]
    lines += [_row(one, verdicts.get(one)) for one in targets]
    red = [one for one in verdicts.values() if not one.is_met]
    return "\n".join([*lines, "", *map(_reason, red), ""] if red else [*lines, ""])


def summary(verdicts: Sequence[Verdict], *, of: int) -> str:
    """How many are met, in one line."""
    met = sum(one.is_met for one in verdicts)
    missing = of - len(verdicts)
    return f"{met} of {of} are met" + (f"; {missing} not measured." if missing else ".")


def _row(budget: Budget, verdict: Verdict | None) -> str:
    if verdict is None:
        return f"| {budget} | {budget.limit} | | not measured |"
    word = "met" if verdict.is_met else "**RED**"
    return f"| {budget} | {budget.limit} | {verdict.figure} | {word} |"


def _reason(verdict: Verdict) -> str:
    budget = verdict.budget
    why = f" Where it goes: {budget.analysis}." if budget.analysis else ""
    return f"- **RED**, {budget}. Aim: {budget.reason}.{why}"


def _number(value: float | None) -> float:
    return math.nan if value is None else value
