"""Draws the diagrams of the design pages from the code: layers, and states of calls, workers and children.

``make docs`` calls it. ``python docs/diagrams.py`` writes the files without building the site.
"""

from __future__ import annotations

import ast
import tomllib
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING

from rtos.scheduler.calls.states import transitions
from rtos.scheduler.supervision.run_state import TRANSITIONS

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

HERE = Path(__file__).parent
ROOT = HERE.parent
WIDTH = 900
STYLE = """<style>
text { font: 14px system-ui, sans-serif; fill: #1b2733 }
.name { font: 600 14px ui-monospace, monospace }
.state { font: 600 11px ui-monospace, monospace }
.small { font-size: 12px; fill: #4a5a6a }
.box { fill: #e8f1f8; stroke: #1b6ca8 }
.end { fill: #eceff1; stroke: #607080 }
.line { stroke: #b8c4ce; stroke-dasharray: 3 4 }
.arrow { stroke: #1b6ca8; stroke-width: 1.5; fill: none; marker-end: url(#head) }
</style>
<defs><marker id="head" viewBox="0 0 8 8" refX="8" refY="4" markerWidth="8" markerHeight="8" orient="auto">
<path d="M0 0 8 4 0 8z" fill="#1b6ca8"/></marker></defs>"""


def diagrams() -> dict[str, str]:
    """The text of each file by its name, relative to this folder."""
    return {
        "design/layers.svg": layers(kernel_layers()),
        "design/call-states.svg": states(_calls("call")),
        "design/worker-states.svg": states(_calls("worker")),
        "design/child-states.svg": states(_children()),
    }


def _calls(machine: str) -> Iterator[tuple[str, str, str]]:
    for one in transitions():
        if one.machine == machine:
            yield one.state, one.event, one.next_state


def _children() -> Iterator[tuple[str, str, str]]:
    for (state, event), following in TRANSITIONS.items():
        yield state.value, event.name.lower().replace("_", " "), following.value


def kernel_layers() -> list[list[tuple[str, str]]]:
    """The rows of the kernel's layer contract, top first; each module with the summary of its docstring."""
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    (contract,) = [one for one in contracts if one.get("containers") == ["rtos.scheduler"]]
    return [[(name, _summary(name)) for name in row.split(" | ")] for row in contract["layers"]]


def _summary(module: str) -> str:
    path = ROOT / "rtos" / "scheduler" / module
    path = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
    docstring = ast.get_docstring(ast.parse(path.read_text())) or ""
    return docstring.split("\n\n")[0].replace("``", "").replace("\n", " ")


def layers(rows: Sequence[Sequence[tuple[str, str]]]) -> str:
    """One row for each layer, one box for each package of it."""
    gap = 12
    y = gap
    parts = []
    for row in rows:
        width = (WIDTH - gap * (len(row) + 1)) / len(row)
        texts = {name: _wrapped(summary, round((width - 24) / 6.5)) for name, summary in row}
        height = 30 + 15 * max(len(lines) for lines in texts.values())
        for column, (name, lines) in enumerate(texts.items()):
            x = gap + column * (width + gap)
            parts.append(
                f'<rect class="box" x="{x:.0f}" y="{y}" width="{width:.0f}" height="{height}" rx="6"/>'
            )
            parts.append(f'<text class="name" x="{x + 12:.0f}" y="{y + 20}">{escape(name)}</text>')
            for number, line in enumerate(lines, 1):
                parts.append(
                    f'<text class="small" x="{x + 12:.0f}" y="{y + 21 + 15 * number}">{escape(line)}</text>'
                )
        y += height + gap
    return _svg(parts, y)


def _wrapped(text: str, width: int) -> list[str]:
    lines = [""]
    for word in text.split():
        if lines[-1] and len(lines[-1]) + 1 + len(word) > width:
            lines.append("")
        lines[-1] = f"{lines[-1]} {word}".strip()
    return lines


def states(rows: Iterable[tuple[str, str, str]]) -> str:
    """One column for each state, one arrow for each pair of states with its events.

    Args:
      rows: the transitions: a state, an event, and the state that follows.
    """
    arrows: dict[tuple[str, str], list[str]] = {}
    for state, event, following in rows:
        arrows.setdefault((state, following), []).append(event)
    names = list(dict.fromkeys(name for pair in arrows for name in pair))
    # Final states stand on the right.
    names.sort(key=lambda name: all(name != source for source, _ in arrows))
    return _svg(*_columns(names, arrows))


def _columns(names: Sequence[str], arrows: Mapping[tuple[str, str], Sequence[str]]) -> tuple[list[str], int]:
    step, top, row = WIDTH / len(names), 24, 30
    at = {name: step * (index + 0.5) for index, name in enumerate(names)}
    bottom = top + 36 + row * len(arrows)
    parts = []
    for name in names:
        width = min(step - 6, 130)
        left = at[name] - width / 2
        kind = "box" if any(name == source for source, _ in arrows) else "end"
        parts += [
            f'<line class="line" x1="{at[name]:.0f}" y1="{top}" x2="{at[name]:.0f}" y2="{bottom}"/>',
            f'<rect class="{kind}" x="{left:.0f}" y="8" width="{width:.0f}" height="32" rx="6"/>',
            f'<text class="state" text-anchor="middle" x="{at[name]:.0f}" y="28">{escape(name)}</text>',
        ]
    for index, ((source, target), events) in enumerate(arrows.items()):
        y = top + 54 + row * index
        start, end = at[source], at[target]
        x, anchor = (start + 8, "start") if end > start else (start - 8, "end")
        label = escape(", ".join(events))
        parts += [
            f'<circle cx="{start:.0f}" cy="{y}" r="3" fill="#1b6ca8"/>',
            f'<path class="arrow" d="M{start:.0f} {y}H{end:.0f}"/>',
            f'<text class="small" text-anchor="{anchor}" x="{x:.0f}" y="{y - 5}">{label}</text>',
        ]
    return parts, bottom + 12


def _svg(parts: Sequence[str], height: int) -> str:
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}">'
    return "\n".join([head, STYLE, '<rect width="100%" height="100%" fill="white"/>', *parts, "</svg>", ""])


if __name__ == "__main__":
    for name, text in diagrams().items():
        (HERE / name).write_text(text)
