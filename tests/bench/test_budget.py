from __future__ import annotations

import pytest

from bench import budget, cli
from bench.harness import Benchmark, Measurement, Run, Sample, Size

TEXT = """
[[budget]]
benchmark = "b"
numerator = "ours:cpu_us"
denominator = "theirs:cpu_us"
at_most = 0.5
reason = "we promised"
"""


def measured(variant: str, cpu: float, **extra: float) -> Measurement:
    sample = Sample(
        operations=1000, cpu_seconds=cpu, wall_seconds=cpu, extra=extra, attribution=f"by {variant}"
    )
    return Measurement.from_sample("b", variant, "call", sample)


def rounds(*pairs: tuple[float, float]) -> Run:
    return Run(
        benchmark="b",
        rounds=[
            {"ours": measured("ours", ours), "theirs": measured("theirs", theirs)} for ours, theirs in pairs
        ],
    )


def test_a_budget_that_is_met() -> None:
    (verdict,) = budget.check(budget.load(TEXT), rounds((1, 4)))
    assert verdict.is_met
    assert str(verdict) == "b: ours:cpu_us / theirs:cpu_us: 0.25, at most 0.5: met"


def test_a_budget_that_is_broken_says_by_how_much_and_why() -> None:
    (verdict,) = budget.check(budget.load(TEXT), rounds((3, 4)))
    assert not verdict.is_met
    assert str(verdict).splitlines() == [
        "b: ours:cpu_us / theirs:cpu_us: 0.75, at most 0.5: NOT MET",
        "  why it is asserted: we promised",
        "  worst case: by ours",
    ]


def test_the_median_of_the_ratios_counts_and_not_the_ratio_of_the_medians() -> None:
    # The whole second round was slow, ours and theirs: its ratio is as good as the others'.
    (verdict,) = budget.check(budget.load(TEXT), rounds((1, 4), (100, 300), (2, 5)))
    assert verdict.measured == pytest.approx(1 / 3)


def test_least_bounds_and_figures_without_a_unit() -> None:
    text = TEXT.replace("at_most", "at_least").replace('denominator = "theirs:cpu_us"\n', "")
    text = text.replace("ours:cpu_us", "ours:share_met")
    for share, met in ((0.6, True), (0.4, False), (float("nan"), False)):
        run = Run(benchmark="b", rounds=[{"ours": measured("ours", 1, share_met=share)}])
        (verdict,) = budget.check(budget.load(text), run)
        assert verdict.is_met is met


def test_budgets_are_held_in_ci_unless_they_say_otherwise() -> None:
    assert budget.load(TEXT)[0].ci is True
    assert budget.load(TEXT + "ci = false\n")[0].ci is False


def test_nothing_to_compare_with_is_no_success() -> None:
    (verdict,) = budget.check(budget.load(TEXT), rounds((0, 0)))
    assert not verdict.is_met


@pytest.mark.parametrize(
    ("old", "new", "text"),
    [
        ('denominator = "theirs:cpu_us"\n', "", "bounds an absolute figure; give a denominator"),
        ("at_most = 0.5\n", "", "needs one bound"),
        ("at_most = 0.5\n", "at_most = 0.5\nat_least = 0.1\n", "needs one bound"),
        ('reason = "we promised"\n', "", "is incomplete"),
        ("ours:cpu_us", "ours", "names no variant or no figure"),
        ("at_most", "atmost", r"unknown fields \['atmost'\]"),
    ],
)
def test_budgets_that_cannot_be_held(old: str, new: str, text: str) -> None:
    with pytest.raises(ValueError, match=text):
        budget.load(TEXT.replace(old, new))


def test_a_budget_of_a_variant_that_does_not_run_is_an_error() -> None:
    with pytest.raises(KeyError, match="no variant 'gone'; there are ours, theirs"):
        budget.check(budget.load(TEXT.replace('"ours:', '"gone:')), rounds((1, 4)))


def test_the_command_line_fails_on_a_broken_budget(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def variants(_: Size) -> dict[str, object]:
        return {
            "ours": lambda: Sample(operations=1, cpu_seconds=3, wall_seconds=3),
            "theirs": lambda: Sample(operations=1, cpu_seconds=4, wall_seconds=4),
        }

    monkeypatch.setattr(cli, "find", lambda _: Benchmark(name="b", summary="", unit="x", variants=variants))
    broken, met = budget.load(TEXT), budget.load(TEXT.replace("0.5", "0.8"))
    monkeypatch.setattr(budget, "load", lambda: broken)
    assert cli.main(["b", "--check"]) == 1
    assert "0.75, at most 0.5: NOT MET" in capsys.readouterr().out
    monkeypatch.setattr(budget, "load", lambda: met)
    assert cli.main(["b", "--check"]) == 0


def test_every_budget_of_ours_speaks_of_a_variant_that_there_is() -> None:
    for one in budget.load():
        names = cli.find(one.benchmark).variants(Size.CHECK if one.ci else Size.FULL)
        assert one.numerator.variant in names, one
        assert one.denominator is None or one.denominator.variant in names, one
