"""The shipped backends pass the conformance checks, and a faulty backend fails them."""

from __future__ import annotations

import inspect
from contextlib import asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING

import pytest

from rtos.daemons.data import open_memory_backend, open_sqlite_backend
from rtos.testing import store
from rtos.testing.store import (
    CHECKS,
    check_returned_record_is_a_copy,
    check_update_merges_fields_and_increments_version,
)

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(params=["memory", "sqlite", "sqlite, one thread, one open file"])
def open_backend(request, tmp_path: Path):
    def path(user_id):
        return tmp_path / (user_id or "shared") / "data.db"

    return {
        "memory": open_memory_backend,
        "sqlite": partial(open_sqlite_backend, path),
        "sqlite, one thread, one open file": partial(open_sqlite_backend, path, threads=1, open_databases=1),
    }[request.param]


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__.removeprefix("check_"))
async def test_shipped_backend_passes_check(check, open_backend) -> None:
    await check(open_backend)


class Forgetful:
    """A backend that does not increment versions."""

    def __init__(self, backend) -> None:
        self._backend = backend
        self.get, self.find, self.search = backend.get, backend.find, backend.search

    async def apply(self, user_id, operations):
        changes = await self._backend.apply(user_id, operations)
        for change in changes:
            if change.verb == "updated":
                change.record["version"] = 1
        return changes


@asynccontextmanager
async def open_forgetful(collections, clock, on_change):
    async with open_memory_backend(collections, clock, on_change) as backend:
        yield Forgetful(backend)


async def test_faulty_backend_fails_the_check_of_its_fault() -> None:
    with pytest.raises(AssertionError):
        await check_update_merges_fields_and_increments_version(open_forgetful)
    await check_returned_record_is_a_copy(open_forgetful)


def test_checks_contains_every_check() -> None:
    written = inspect.getsource(store).count("\nasync def check_")
    assert len(CHECKS) == len({check.__name__ for check in CHECKS}) == written > 0
