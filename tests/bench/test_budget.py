from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from bench import budget, cli, others
from bench.harness import Benchmark, Measurement, Run, Sample, Size
from bench.peers.catalogue import Peer
from bench.peers.environments import Skipped

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


def test_a_target_is_held_in_ci_only_where_it_says_so() -> None:
    (aim,) = budget.load(TEXT + "target = true\n")
    assert (aim.is_target, aim.ci) == (True, False)
    (held,) = budget.load(TEXT + "target = true\nci = true\n")
    assert (held.is_target, held.ci) == (True, True)
    assert budget.load(TEXT)[0].is_target is False


ALONE = TEXT.replace('denominator = "theirs:cpu_us"\n', "")


def test_only_a_target_that_ci_does_not_assert_bounds_cpu_time_by_itself() -> None:
    (aim,) = budget.load(ALONE + "target = true\n")
    (verdict,) = budget.check([aim], rounds((1, 1)))
    assert verdict.measured == pytest.approx(1000)
    (verdict,) = budget.check([aim], rounds((1234.5, 1)))
    assert "b: ours:cpu_us: 1,234,500, at most 0.5" in str(verdict)
    for asserted in ("", "ci = false\n", "target = true\nci = true\n"):
        with pytest.raises(ValueError, match="bounds an absolute figure"):
            budget.load(ALONE + asserted)
    with pytest.raises(ValueError, match="bounds an absolute figure"):
        budget.load(ALONE.replace("cpu_us", "wall_us") + "target = true\n")


@pytest.mark.parametrize("name", ["share_met", "count_lost", "virtual_ms", "kib_each"])
def test_what_has_no_unit_of_real_time_is_bounded_by_itself(name: str) -> None:
    (one,) = budget.load(ALONE.replace("cpu_us", name))
    assert one.ci
    assert one.limit == "at most 0.5"
    (one,) = budget.load(ALONE.replace("cpu_us", name).replace("at_most = 0.5", "at_least = 1_000_000"))
    assert one.limit == "at least 1,000,000"


def test_a_target_that_is_not_met_says_where_the_time_goes() -> None:
    text = TEXT + 'target = true\nanalysis = "the heap takes it"\n'
    (verdict,) = budget.check(budget.load(text), rounds((3, 4)))
    assert str(verdict).splitlines() == [
        "target: b: ours:cpu_us / theirs:cpu_us: 0.75, at most 0.5: NOT MET",
        "  why it is aimed at: we promised",
        "  analysis: the heap takes it",
        "  worst case: by ours",
    ]


def test_who_cannot_be_had_here_is_not_compared_with() -> None:
    (one,) = budget.load(TEXT.replace("theirs", "uvloop"))
    assert budget.check([one], rounds((1, 4)), optional=("uvloop",)) == []
    with pytest.raises(KeyError, match="no variant 'uvloop'"):
        budget.check([one], rounds((1, 4)), optional=("go",))
    # One that could be had counts, although it need not have been there.
    assert len(budget.check(budget.load(TEXT), rounds((1, 4)), optional=("theirs",))) == 1


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
        ('reason = "we promised"\n', 'reason = "we promised"\nci = 1\n', "ci is 1; use true or false"),
        ('reason = "we promised"\n', 'reason = "we promised"\ntarget = "yes"\n', "target is 'yes'; use true"),
        ('reason = "we promised"\n', 'reason = "we promised"\nanalysis = "it is slow"\n', "is no target"),
    ],
)
def test_budgets_that_cannot_be_held(old: str, new: str, text: str) -> None:
    with pytest.raises(ValueError, match=text):
        budget.load(TEXT.replace(old, new))


def test_a_budget_of_a_variant_that_does_not_run_is_an_error() -> None:
    with pytest.raises(KeyError, match="no variant 'gone'; there are ours, theirs"):
        budget.check(budget.load(TEXT.replace('"ours:', '"gone:')), rounds((1, 4)))


@pytest.fixture
def three_quarters(monkeypatch: pytest.MonkeyPatch) -> None:
    """The only benchmark there is: ours costs three quarters of theirs."""

    def variants(_: Size) -> dict[str, object]:
        return {
            "ours": lambda: Sample(operations=1, cpu_seconds=3, wall_seconds=3),
            "theirs": lambda: Sample(operations=1, cpu_seconds=4, wall_seconds=4),
        }

    monkeypatch.setattr(cli, "find", lambda _: Benchmark(name="b", summary="", unit="x", variants=variants))


@pytest.mark.usefixtures("three_quarters")
def test_the_command_line_fails_on_a_broken_budget(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    broken, met = budget.load(TEXT), budget.load(TEXT.replace("0.5", "0.8"))
    monkeypatch.setattr(budget, "load", lambda: broken)
    assert cli.main(["b", "--check"]) == 1
    said = capsys.readouterr().out
    assert "0.75, at most 0.5: NOT MET" in said
    assert re.fullmatch(r"seconds: b \d+; together \d+", said.splitlines()[-1])
    monkeypatch.setattr(budget, "load", lambda: met)
    assert cli.main(["b", "--check"]) == 0


@pytest.mark.parametrize(("bad_rounds", "code"), [(1, 0), (2, 1)])
def test_what_is_not_met_is_measured_again_and_every_round_counts(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], bad_rounds: int, code: int
) -> None:
    seconds = iter([3] * bad_rounds + [1] * (3 - bad_rounds))
    variants = {
        "ours": lambda: Sample(operations=1, cpu_seconds=next(seconds), wall_seconds=3),
        "theirs": lambda: Sample(operations=1, cpu_seconds=4, wall_seconds=4),
    }
    only = Benchmark(name="b", summary="", unit="x", variants=lambda _: variants, rounds=1)
    found = budget.load(TEXT)
    monkeypatch.setattr(cli, "find", lambda _: only)
    monkeypatch.setattr(budget, "load", lambda: found)
    assert cli.main(["b", "--check"]) == code
    said = capsys.readouterr().out
    assert "0.75, at most 0.5: NOT MET" in said
    assert "twice as many rounds again" in said
    assert ("0.25, at most 0.5: met" in said) is (code == 0)


@pytest.mark.usefixtures("three_quarters")
def test_a_target_that_is_not_met_fails_nothing_unless_ci_holds_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    load = budget.load

    def main(more: str, *words: str) -> tuple[int, str]:
        found = load(TEXT + more)
        monkeypatch.setattr(budget, "load", lambda: found)
        return cli.main(["b", *words, f"--out={tmp_path}"]), capsys.readouterr().out

    code, said = main("target = true\n")
    assert code == 0
    assert "targets: 0 of 1 are met." in said
    assert "  NOT MET b: ours:cpu_us / theirs:cpu_us: 0.75, at most 0.5" in said.splitlines()
    code, said = main("target = true\n", "--check")
    assert code == 0
    assert "target" not in said, "a check looks at what CI holds, and at nothing else"
    assert main("target = true\nci = true\n", "--check")[0] == 1


def test_a_check_runs_only_the_variants_that_a_budget_names(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def variants(_: Size) -> dict[str, Callable[[], Sample]]:
        return {
            name: lambda: Sample(operations=1, cpu_seconds=1, wall_seconds=1)
            for name in ("ours", "theirs", "nobody's")
        }

    found = budget.load(TEXT.replace("0.5", "1"))
    monkeypatch.setattr(budget, "load", lambda: found)
    monkeypatch.setattr(
        cli, "find", lambda name: Benchmark(name=name, summary="", unit="x", variants=variants)
    )
    assert cli.main(["b", "--check"]) == 0
    assert "nobody's" not in capsys.readouterr().out


def test_a_peer_that_gives_up_takes_no_other_benchmark_along(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    def gives_up() -> Sample:
        raise Skipped("failed", "go said nothing")

    ways = {"a": gives_up, "b": lambda: Sample(operations=1, cpu_seconds=3, wall_seconds=3)}

    def find(name: str) -> Benchmark:
        return Benchmark(name=name, summary="", unit="x", variants=lambda _: {"ours": ways[name]})

    monkeypatch.setattr(cli, "find", find)
    assert cli.main(["a", "b", f"--out={tmp_path}"]) == 1
    assert "a: no result: failed: go said nothing" in capsys.readouterr().err
    assert [kept.name for kept in tmp_path.iterdir()] == ["b.json"]


@pytest.fixture
def nobody_else(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine on which no other system can be had; so that nothing is installed for a test."""

    def command(peer: Peer) -> list[str]:
        raise Skipped("missing", peer.name)

    monkeypatch.setattr(others, "command", command)


@pytest.mark.usefixtures("nobody_else")
def test_every_budget_of_ours_speaks_of_a_variant_that_there_is() -> None:
    for one in budget.load():
        benchmark = cli.find(one.benchmark)
        names = benchmark.variants(Size.CHECK if one.ci else Size.FULL).keys()
        assert {figure.variant for figure in one.figures} <= names | set(benchmark.optional), one
        assert one.numerator.variant in names, one


@pytest.mark.usefixtures("nobody_else")
@pytest.mark.parametrize("name", ["tick", "command", "fan_in"])
def test_who_cannot_be_had_is_left_out_with_a_word(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    benchmark = cli.find(name)
    assert benchmark.variants(Size.FULL).keys().isdisjoint(benchmark.optional)
    assert f"{name}: uvloop is left out: missing" in capsys.readouterr().err
    assert benchmark.variants(Size.CHECK).keys().isdisjoint(benchmark.optional)
    assert capsys.readouterr().err == "", "a check asks for nobody else"


def test_whoever_can_be_had_is_one_that_need_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(others, "command", lambda _: ["true"])
    for name in ("tick", "command", "fan_in"):
        benchmark = cli.find(name)
        more = benchmark.variants(Size.FULL).keys() - benchmark.variants(Size.CHECK).keys()
        assert more == set(benchmark.optional)
