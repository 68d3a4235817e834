"""Plots as plain SVG: how often which latency occurred, latency against load, and anything against time.

Pure: numbers in, text out.
"""

from __future__ import annotations

import math
from html import escape
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

WIDTH, HEIGHT, LEFT, TOP, RIGHT, BOTTOM = 720, 360, 64, 36, 170, 44
COLOURS: Final = ("#1b6ca8", "#d1495b", "#2e933c", "#edae49", "#6a4c93", "#00798c", "#8d5524", "#444444")
PER_DECADE: Final = 10
"""Bars of a histogram for each power of ten."""


def histogram(title: str, series: Mapping[str, Sequence[int]]) -> str:
    """Share of the samples (nanoseconds) in each tenth of a decade, a line for each series."""
    bars = {name: _bars(samples) for name, samples in series.items() if samples}
    points = {
        name: [(10 ** (bar / PER_DECADE) / 1e3, 100 * share) for bar, share in sorted(found.items())]
        for name, found in bars.items()
    }
    return _plot(title, points, axes=("latency, µs", "% of samples"))


def curve(title: str, series: Mapping[str, Sequence[tuple[float, float]]], *, axes: tuple[str, str]) -> str:
    """Lines through points, the y axis logarithmic; points at or below 0 are left out."""
    points = {name: [(x, math.log10(y)) for x, y in found if y > 0] for name, found in series.items()}
    return _plot(title, points, axes=axes, log_x=False, log_y=True)


def graph(
    title: str,
    series: Mapping[str, Sequence[tuple[float, float]]],
    *,
    axes: tuple[str, str],
    up: tuple[float, float] = (0.0, 0.0),
) -> str:
    """Lines through points, both axes as they are; the y axis reaches at least over ``up``."""
    return _plot(title, series, axes=axes, log_x=False, at_least=up)


def _bars(samples: Sequence[int]) -> dict[int, float]:
    found: dict[int, float] = {}
    for sample in samples:
        bar = round(PER_DECADE * math.log10(max(sample, 1)))
        found[bar] = found.get(bar, 0) + 1 / len(samples)
    # What was never seen is drawn as never seen, not as a slope.
    return {bar: found.get(bar, 0.0) for bar in range(min(found) - 1, max(found) + 2)}


def _plot(
    title: str,
    series: Mapping[str, Sequence[tuple[float, float]]],
    *,
    axes: tuple[str, str],
    log_x: bool = True,
    log_y: bool = False,
    at_least: tuple[float, float] = (0.0, 0.0),
) -> str:
    placed = {n: [(math.log10(x) if log_x else x, y) for x, y in points] for n, points in series.items()}
    xs = [x for points in placed.values() for x, _ in points] or [0.0, 1.0]
    ys = [y for points in placed.values() for _, y in points] or [0.0, 1.0]
    across = (min(xs), max(*xs, min(xs) + 1e-9))
    low, high = (min(ys), 0.0) if log_y else at_least
    up = (min(low, *ys), max(high, *ys, min(ys) + 1e-9, 1e-9))
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}">',
        "<style>text { font: 11px sans-serif } .title { font-size: 14px }</style>",
        '<rect width="100%" height="100%" fill="white"/>',
        f'<text x="{LEFT}" y="20" class="title">{escape(title)}</text>',
        f'<text x="{LEFT}" y="{HEIGHT - 8}">{escape(axes[0])}</text>',
        f'<text x="{LEFT}" y="{TOP - 4}" fill="#666">{escape(axes[1])}</text>',
        *_ticks(across, log=log_x, is_x=True),
        *_ticks(up, log=log_y, is_x=False),
    ]
    for index, (name, points) in enumerate(placed.items()):
        colour = COLOURS[index % len(COLOURS)]
        path = " ".join(f"{_at_x(x, across):.1f},{_at_y(y, up):.1f}" for x, y in points)
        lines.append(f'<polyline fill="none" stroke="{colour}" stroke-width="1.5" points="{path}"/>')
        y = TOP + 14 * index + 10
        lines.append(f'<text x="{WIDTH - RIGHT + 10}" y="{y}" fill="{colour}">{escape(name)}</text>')
    return "\n".join([*lines, "</svg>", ""])


def _ticks(span: tuple[float, float], *, log: bool, is_x: bool) -> Iterator[str]:
    low, high = span
    marks: Sequence[float] = range(math.ceil(low - 1e-9), math.floor(high + 1e-9) + 1) if log else ()
    if len(marks) < 2:
        marks = [low + (high - low) * part / 4 for part in range(5)]
    for mark in marks:
        text = f"{10**mark:g}" if log and mark == int(mark) else f"{10**mark if log else mark:.3g}"
        if is_x:
            x = _at_x(mark, span)
            yield f'<line x1="{x:.1f}" x2="{x:.1f}" y1="{TOP}" y2="{HEIGHT - BOTTOM}" stroke="#ddd"/>'
            yield f'<text x="{x:.1f}" y="{HEIGHT - BOTTOM + 14}" text-anchor="middle">{text}</text>'
        else:
            y = _at_y(mark, span)
            yield f'<line x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}" stroke="#ddd"/>'
            yield f'<text x="{LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{text}</text>'


def _at_x(value: float, span: tuple[float, float]) -> float:
    return LEFT + (value - span[0]) / (span[1] - span[0]) * (WIDTH - LEFT - RIGHT)


def _at_y(value: float, span: tuple[float, float]) -> float:
    return HEIGHT - BOTTOM - (value - span[0]) / (span[1] - span[0]) * (HEIGHT - TOP - BOTTOM)
