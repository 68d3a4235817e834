"""The reference documents each public name once."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

import rtos.scheduler

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "scheduler.md"


def test_each_public_name_of_the_scheduler_is_documented_once() -> None:
    documented = re.findall(r"^\.\. auto(?:class|function|data):: (\w+)$", PAGE.read_text(), re.MULTILINE)
    assert Counter(documented) == Counter(rtos.scheduler.__all__)
