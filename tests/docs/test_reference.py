"""The reference documents each public name once, and pages name only what exists."""

from __future__ import annotations

import re
from collections import Counter
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

import pytest

import rtos.scheduler

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "reference" / "scheduler.md"
PAGES = [
    ROOT / "README.md",
    *(path for path in sorted(ROOT.glob("docs/**/*.md")) if path.parent.name != "modules"),
]


def test_each_public_name_of_the_scheduler_is_documented_once() -> None:
    documented = re.findall(r"^\.\. auto(?:class|function|data):: (\w+)$", PAGE.read_text(), re.MULTILINE)
    assert Counter(documented) == Counter(rtos.scheduler.__all__)


def _exists(name: str) -> bool:
    """Whether a dotted name is a module, or an attribute of one."""
    module, _, attribute = name.rpartition(".")
    try:
        return find_spec(name) is not None or hasattr(import_module(module), attribute)
    except ModuleNotFoundError:
        return hasattr(import_module(module), attribute)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_each_name_and_path_on_a_page_exists(page: Path) -> None:
    text = page.read_text()
    names = set(re.findall(r"`~?(rtos(?:\.\w+)+)", text)) | set(
        re.findall(r"^from (rtos[\w.]+)", text, re.MULTILINE)
    )
    paths = set(re.findall(r"(?<![\w/])((?:rtos|examples|tests|bench|docs)/[\w/.-]+\.(?:py|toml|md))", text))
    assert not [name for name in names if not _exists(name)]
    assert not [path for path in paths if not (ROOT / path).exists()]
