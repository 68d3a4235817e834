from __future__ import annotations

from pathlib import Path

from bench import report
from bench.harness import Benchmark, Sample, Size, run

SAMPLES = {
    "ours": Sample(
        operations=2000, cpu_seconds=0.01, wall_seconds=1, latencies=[1000, 2000], attribution="a step"
    ),
    "theirs": Sample(operations=1000, cpu_seconds=0.01, wall_seconds=1, extra={"share_met": 0.5}),
}
BENCHMARK = Benchmark(
    name="b",
    summary="a summary",
    unit="x",
    variants=lambda _: {name: lambda name=name: SAMPLES[name] for name in SAMPLES},
    plots=lambda _: {"b": "<svg></svg>\n"},
)


def test_no_column_is_empty_and_no_row_lacks_one() -> None:
    head, ours, theirs = report.rows(list(run(BENCHMARK, Size.SMOKE).medians().values()))
    latencies = ["p50 µs", "p90 µs", "p99 µs", "worst µs"]
    assert head == ["variant", "number", "CPU µs each", "per CPU second", *latencies, "share met"]
    assert ours == ["ours", "2,000", "5", "200,000", "1", "2", "2", "2", ""]
    assert theirs == ["theirs", "1,000", "10", "100,000", "", "", "", "", "0.5"]


def test_the_document_is_made_from_what_was_kept(tmp_path: Path) -> None:
    path = tmp_path / "doc.md"
    path.write_text(f"# Method\n{report.BEGIN}\nof yesterday\n{report.END}\nafter\n")
    (tmp_path / "results").mkdir()
    results = tmp_path / "results"
    report.write(run(BENCHMARK, Size.SMOKE), BENCHMARK, results, report.configuration())
    report.document(results, path)
    text = path.read_text()
    assert text.startswith(f"# Method\n{report.BEGIN}\n")
    assert text.endswith(f"{report.END}\nafter\n")
    assert "yesterday" not in text
    assert "### b" in text
    assert "| theirs | 1,000 | 10 | 100,000 |" in text
    assert "- worst of ours: a step" in text
    assert "\n\n![b](pictures/b.svg)\n" in text
    assert (tmp_path / "pictures" / "b.svg").read_text() == "<svg></svg>\n"
    assert text.index("### Targets") < text.index("### b")
    # Made anew it is the same: nothing of the old tables stays behind.
    report.document(results, path)
    assert path.read_text() == text
