"""The diagrams of the design pages are drawn from the code and complete."""

from __future__ import annotations

import re
import runpy
from pathlib import Path

DOCS = Path(__file__).parents[2] / "docs"
DRAWN = runpy.run_path(str(DOCS / "diagrams.py"))


def test_layer_diagram_names_each_package_of_the_kernel() -> None:
    packages = {path.parent.name for path in DOCS.parent.glob("rtos/scheduler/*/__init__.py")}
    drawn = {name for row in DRAWN["kernel_layers"]() for name, _ in row}
    assert packages <= drawn


def test_each_diagram_is_shown_on_a_page() -> None:
    shown = {
        f"design/{name}"
        for page in DOCS.glob("design/*.md")
        for name in re.findall(r"\]\((\S+\.svg)\)", page.read_text())
    }
    assert shown == set(DRAWN["diagrams"]())
