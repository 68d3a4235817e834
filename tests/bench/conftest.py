"""Shared by the tests of the benchmarks."""

import gc
from collections.abc import Iterator

import pytest


@pytest.fixture(autouse=True)
def frozen_heap() -> Iterator[None]:
    """A benchmark collects garbage before each variant; what the tests have imported is none."""
    gc.freeze()
    yield
    gc.unfreeze()
