from __future__ import annotations

from xml.etree import ElementTree as ET

from bench import svg

SVG = "{http://www.w3.org/2000/svg}"


def lines(text: str) -> list[list[tuple[float, float]]]:
    found = ET.fromstring(text).findall(f"{SVG}polyline")
    return [
        [tuple(float(number) for number in point.split(",")) for point in line.attrib["points"].split()]
        for line in found
    ]


def test_a_histogram_has_a_line_for_each_series_that_has_samples() -> None:
    text = svg.histogram("a < b", {"one & only": [1000] * 9 + [100_000], "none": []})
    (line,) = lines(text)
    # Nine tenths stand at the left, above everything; what was never seen lies on the ground.
    heights = [y for _, y in line]
    ground = svg.HEIGHT - svg.BOTTOM
    assert min(heights) == svg.TOP
    assert heights.index(min(heights)) == 1
    assert sorted(heights)[1] < ground
    assert heights.count(ground) == len(heights) - 2
    assert "one &amp; only" in text


def test_a_curve_stays_within_its_frame_and_rises_where_the_figures_do() -> None:
    text = svg.curve("t", {"p99": [(50, 1), (100, 10), (200, 1000)], "zero": [(50, 0)]}, axes=("load", "ms"))
    line, nothing = lines(text)
    assert [x for x, _ in line] == sorted(x for x, _ in line)
    assert [y for _, y in line] == sorted((y for _, y in line), reverse=True)
    assert all(svg.LEFT <= x <= svg.WIDTH - svg.RIGHT for x, _ in line)
    assert all(svg.TOP <= y <= svg.HEIGHT - svg.BOTTOM for _, y in line)
    assert nothing == []


def test_a_graph_reaches_below_0_where_its_figures_do_and_as_far_as_it_is_told() -> None:
    points = {"mood": [(0, 0.0), (1, -0.5), (2, 0.5)]}
    ground = svg.HEIGHT - svg.BOTTOM
    for up, lowest in (((0.0, 0.0), ground), ((-1.0, 1.0), ground - (ground - svg.TOP) / 4)):
        (line,) = lines(svg.graph("t", points, axes=("hour", "mood"), up=up))
        assert max(y for _, y in line) == lowest
        assert all(svg.TOP <= y <= ground for _, y in line)
