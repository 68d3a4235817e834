"""Conformance checks for storage backends.

Test your own backend with all of them::

    @pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
    async def test_conformance(check, tmp_path):
        await check(partial(open_my_backend, tmp_path))

A check gets a function that opens an empty backend with the given collections, clock and
listener. It raises ``AssertionError`` if the backend does not conform.
No check depends on the wall clock, on the order of unrelated tasks, or on how a search ranks its results
beyond "a record that contains more of the words is not ranked lower".
"""

from __future__ import annotations

from functools import partial
from random import Random
from typing import TYPE_CHECKING, Any, Final

import attrs
import trio

from rtos.daemons.data import Collection, RecordClock
from rtos.daemons.data.figures import CollectionFigures
from rtos.daemons.data.operation import ChangePage, Operation
from rtos.daemons.data.query import Query, matches, parse_filter, parse_sort, position_of, sorted_records
from rtos.daemons.data.vectors import Near, nearest
from rtos.errors import Conflict, NotFound, RtosError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence
    from contextlib import AbstractAsyncContextManager

    from rtos.daemons.data import Backend
    from rtos.daemons.data.backend import OnChange
    from rtos.daemons.data.operation import Change, Record
    from rtos.daemons.data.query import SortKey

    OpenBackend = Callable[
        [Sequence[Collection], RecordClock, OnChange], AbstractAsyncContextManager[Backend]
    ]
    Check = Callable[[OpenBackend], Awaitable[None]]

COLLECTIONS: Final = (
    Collection("notes", search=("title", "text"), indexes=("kind",), near=("signature", "vector")),
    Collection("notes_text"),
    Collection("things"),
)

RECORDS: Final[tuple[dict[str, Any], ...]] = (
    {},
    {"kind": "a", "n": 1, "tags": ["x", "y"], "deep": {"er": 1}},
    {"kind": "a", "n": 1.0, "tags": [], "deep": {"er": "1"}},
    {"kind": "b", "n": 2, "tags": ["X"], "deep": {"er": None}},
    {"kind": "b", "n": "2", "tags": "xy", "deep": {}},
    {"kind": None, "n": True, "tags": [1, True, None], "deep": [{"er": 1}]},
    {"kind": "ä", "n": False, "tags": {"x": 1}, "deep": "er"},
    {"kind": "a\0b", "n": None, "tags": [["x"]], "deep": {"er": [1]}},
    {"kind": "", "n": -0.5, "tags": ["STRASSE"], "deep": {"er": {"est": 2}}},
    {"kind": "Z", "n": 2**63 - 1, "tags": ["ß"], "deep": {"er": 2**53 + 1}},
)

FILTERS: Final[tuple[dict[str, Any], ...]] = (
    {},
    {"kind": "a"},
    {"kind": None},
    {"kind": {"$ne": "a"}},
    {"kind": {"$ne": None}},
    {"kind": {"$in": []}},
    {"kind": {"$nin": []}},
    {"kind": {"$in": ["a", None, 1]}},
    {"kind": {"$nin": ["a", None]}},
    {"kind": {"$gt": "Z"}},
    {"kind": "a\0b"},
    {"n": 1},
    {"n": True},
    {"n": "2"},
    {"n": {"$gt": 0}},
    {"n": {"$lte": 1.0}},
    {"n": {"$gte": 2**63 - 1}},
    {"n": {"$in": [1, True, "2"]}},
    {"n": {"$exists": False}},
    {"n": {"$exists": True}, "kind": "a"},
    {"tags": {"$contains": "x"}},
    {"tags": {"$contains": "strasse"}},
    {"tags": []},
    {"tags": {"$regex": "^x"}},
    {"tags.0": "x"},
    {"deep.er": 1},
    {"deep.er": None},
    {"deep": {}},
    {"deep.er": {"$exists": True}},
    {"deep.er.est": {"$lt": 3}},
    {"version": 1, "id": {"$gte": "r3"}},
    {"version": {"$in": [1.0, "1"]}},
    {"id": {"$in": ["r1", "r4", 7]}},
    {"$or": []},
    {"$and": []},
    {"$or": [{"kind": "a"}, {"n": {"$lt": 0}}]},
    {"$not": {"kind": "a"}},
    {"$not": {"$or": [{"kind": {"$exists": False}}, {"tags": {"$contains": "x"}}]}},
)

SORTS: Final[tuple[list[str], ...]] = (
    [],
    ["id"],
    ["-created_at"],
    ["kind"],
    ["-kind", "n"],
    ["n", "-id"],
    ["tags"],
    ["-deep.er"],
    ["tags.0"],
    ["-version", "-n"],
)


def _create(id: str, collection: str = "notes", **data: Any) -> Operation:
    return Operation(op="create", collection=collection, id=id, data=data)


def _update(id: str, version: int | None = None, **data: Any) -> Operation:
    return Operation(op="update", collection="notes", id=id, data=data, expected_version=version)


def _delete(id: str) -> Operation:
    return Operation(op="delete", collection="notes", id=id)


def _ignore(_user: str | None, _changes: Sequence[Change]) -> None:
    return None


async def _refusal(backend: Backend, *operations: Operation) -> RtosError:
    try:
        await backend.apply(None, operations)
    except RtosError as error:
        return error
    raise AssertionError(f"{operations!r} was not refused")


async def check_record_is_returned_unchanged(open_backend: OpenBackend) -> None:
    """A record is returned as it was created, for every JSON type and in every collection."""
    async with open_backend(COLLECTIONS, RecordClock(), _ignore) as backend:
        for number, data in enumerate(RECORDS):
            (change,) = await backend.apply(None, [_create(f"r{number}", **data)])
            record = await backend.get(None, "notes", f"r{number}")
            assert record is not None
            assert repr(record) == repr(change.record)
            assert {key: record[key] for key in data} == data
            assert (record["id"], record["version"]) == (f"r{number}", 1)
            assert record["created_at"] == record["updated_at"]


async def check_update_merges_fields_and_increments_version(open_backend: OpenBackend) -> None:
    """The change carries the whole record, with the original ``created_at``."""
    async with open_backend(COLLECTIONS, RecordClock(), _ignore) as backend:
        (created,) = await backend.apply(None, [_create("a", kind="x", n=1)])
        (updated,) = await backend.apply(None, [_update("a", n=2, new=None)])
        assert created.record is not None
        assert updated.record is not None
        assert updated.record == await backend.get(None, "notes", "a")
        fields = {key: updated.record[key] for key in ("kind", "n", "new", "version")}
        assert fields == {"kind": "x", "n": 2, "new": None, "version": 2}
        assert updated.record["created_at"] == created.record["created_at"]
        assert updated.record["updated_at"] > created.record["updated_at"]


async def check_store_replaces_the_record(open_backend: OpenBackend) -> None:
    """``store`` creates or replaces a record, and the change says which."""
    store = Operation(op="store", collection="notes", id="k", data={"value": 1})
    again = Operation(op="store", collection="notes", id="k", data={"other": 2})
    async with open_backend(COLLECTIONS, RecordClock(), _ignore) as backend:
        (first, second) = await backend.apply(None, [store, again])
        assert [first.verb, second.verb] == ["created", "updated"]
        record = await backend.get(None, "notes", "k")
        assert record is not None
        assert (record["version"], record["other"], "value" in record) == (2, 2, False)


async def check_conflicting_write_changes_nothing(open_backend: OpenBackend) -> None:
    """A create over a record, a wrong version and an update of a missing record are refused."""
    async with open_backend(COLLECTIONS, RecordClock(), _ignore) as backend:
        await backend.apply(None, [_create("a", n=1)])
        assert isinstance(await _refusal(backend, _create("a")), Conflict)
        assert isinstance(await _refusal(backend, _update("a", 7, n=2)), Conflict)
        assert isinstance(await _refusal(backend, _update("b", n=2)), NotFound)
        record = await backend.get(None, "notes", "a")
        assert record is not None
        assert (record["n"], record["version"]) == (1, 1)


async def check_delete_reports_the_deleted_record(open_backend: OpenBackend) -> None:
    """A second delete reports no record."""
    async with open_backend(COLLECTIONS, RecordClock(), _ignore) as backend:
        await backend.apply(None, [_create("a", n=1)])
        (deleted,) = await backend.apply(None, [_delete("a")])
        (nothing,) = await backend.apply(None, [_delete("a")])
        assert deleted.record is not None
        assert deleted.record["n"] == 1
        assert nothing.record is None
        assert await backend.get(None, "notes", "a") is None
        # A new record with the id of a deleted one starts at version 1.
        (again,) = await backend.apply(None, [_create("a")])
        assert again.record is not None
        assert again.record["version"] == 1


async def check_batch_is_atomic(open_backend: OpenBackend) -> None:
    """Operations see the effects of earlier ones, and a failing operation undoes all of them."""
    told: list[str] = []
    async with open_backend(COLLECTIONS, RecordClock(), _telling(told)) as backend:
        await backend.apply(None, [_create("a", n=1)])
        error = await _refusal(backend, _update("a", n=2), _delete("a"), _create("b"), _update("a", n=3))
        assert isinstance(error, NotFound)
        record = await backend.get(None, "notes", "a")
        assert record is not None
        assert record["n"] == 1
        assert await backend.get(None, "notes", "b") is None
        assert told == ["created a"]


async def check_changes_are_reported_once_in_order_before_apply_returns(open_backend: OpenBackend) -> None:
    """A delete without a record reports nothing."""
    told: list[str] = []
    async with open_backend(COLLECTIONS, RecordClock(), _telling(told)) as backend:
        await backend.apply(None, [_create("a"), _update("a", n=1), _delete("a"), _delete("a")])
        assert told == ["created a", "updated a", "deleted a"]
        async with trio.open_nursery() as nursery:
            for number in range(20):
                nursery.start_soon(backend.apply, None, [_create(f"r{number}", n=number)])
        stamps = {r["id"]: r["created_at"] for r in await backend.find(None, "notes", Query())}
        order = [line.removeprefix("created ") for line in told[3:]]
        assert sorted(order) == sorted(stamps)
        assert order == sorted(stamps, key=stamps.__getitem__)


async def check_change_log_has_consecutive_numbers(open_backend: OpenBackend) -> None:
    """Numbers start at 1 and have no gaps, also if other writes fail; the log equals the reported changes."""
    told: list[Change] = []
    async with open_backend(COLLECTIONS, RecordClock(), lambda _, changes: told.extend(changes)) as backend:
        assert await backend.changes("u", 0, 10) == ChangePage([])

        async def write(number: int) -> None:
            operations = [_create(f"r{number}"), _update(f"r{number}", n=number), _delete("nothing")]
            if number % 3 == 0:
                operations.append(_update("nothing"))
            try:
                await backend.apply("u", operations)
            except NotFound:
                assert number % 3 == 0

        async with trio.open_nursery() as nursery:
            for number in range(30):
                nursery.start_soon(write, number)
        await backend.apply("u", [_delete("r1")])
        page = await backend.changes("u", 0, 100)
        assert [item["sequence"] for item in page.items] == list(range(1, 42))
        assert (page.last, page.oldest) == (41, 1)
        assert page.items == [change.noted() for change in told if change.record is not None]
        assert (await backend.changes("u", 39, 1)).items == page.items[39:40]
        assert await backend.changes(None, 0, 10) == ChangePage([])
        # Replaying the log from the beginning yields the stored records.
        played: dict[str, Record] = {}
        for item in page.items:
            played.pop(item["record"]["id"], None)
            if item["verb"] != "deleted":
                played[item["record"]["id"]] = item["record"]
        there = await backend.find("u", "notes", Query(limit=100))
        assert {record["id"]: record for record in there} == played


async def check_timestamps_never_repeat(open_backend: OpenBackend) -> None:
    """Two writes never get the same timestamp, not even on a clock that stands still or in two databases."""
    async with open_backend(COLLECTIONS, RecordClock(lambda: 10**18), _ignore) as backend:
        stamps = []
        for number in range(10):
            user = ("u1", "u2", None)[number % 3]
            (change,) = await backend.apply(user, [_create(f"r{number}")])
            assert change.record is not None
            stamps.append(change.record["updated_at"])
        assert stamps == sorted(set(stamps))


async def check_databases_are_separate(open_backend: OpenBackend) -> None:
    """Users, the shared database, and collections with a common prefix do not mix."""
    async with open_backend(COLLECTIONS, RecordClock(), _ignore) as backend:
        await backend.apply("u1", [_create("a", text="one")])
        await backend.apply("u1", [_create("a", "notes_text", text="other")])
        assert await backend.get(None, "notes", "a") is None
        assert await backend.find("u2", "notes", Query()) == []
        assert await backend.search("u2", "notes", "one", 5) == []
        assert len(await backend.find("u1", "notes", Query())) == 1
        record = await backend.get("u1", "notes_text", "a")
        assert record is not None
        assert record["text"] == "other"


async def check_queries_match_the_reference_semantics(open_backend: OpenBackend) -> None:
    """``find`` agrees with the pure implementation, for every filter with every order."""
    async with open_backend(COLLECTIONS, RecordClock(), _ignore) as backend:
        await backend.apply(None, [_create(f"r{number}", **data) for number, data in enumerate(RECORDS)])
        await backend.apply(None, [_update("r4", extra=1)])
        everything = [await backend.get(None, "notes", f"r{number}") for number in range(len(RECORDS))]
        records = [record for record in everything if record is not None]
        for given in FILTERS:
            for sort in SORTS:
                for limit in (1, 3, 100):
                    await _agrees(backend, records, given, sort, limit)


async def _agrees(
    backend: Backend, records: list[Record], given: dict[str, Any], sort: list[str], limit: int
) -> None:
    where, keys = parse_filter("check", given), parse_sort("check", sort)
    found = await backend.find(None, "notes", Query(where=where, sort=keys, limit=limit))
    wanted = sorted_records([record for record in records if matches(where, record)], keys)[:limit]
    assert [r["id"] for r in found] == [r["id"] for r in wanted], (given, sort, limit)
    assert found == wanted


async def check_search_finds_current_records_only(open_backend: OpenBackend) -> None:
    """Words of the declared fields are found until the record changes or is deleted."""
    async with open_backend(COLLECTIONS, RecordClock(), _ignore) as backend:
        await backend.apply(
            None, [_create("a", title="the harbour", text="ships"), _create("b", text="Ships!")]
        )
        await backend.apply(None, [_create("c", other="ships")])
        assert await _found(backend, "SHIPS") == {"a", "b"}
        best = (await backend.search(None, "notes", "harbour ships", 1))[0]
        assert best["id"] == "a"
        assert best["score"] > 0
        await backend.apply(None, [_update("a", text="boats"), _delete("b")])
        assert await _found(backend, "ships") == set()
        assert await _found(backend, "boats") == {"a"}
        assert await _found(backend, "none") == set()


async def check_nearest_finds_current_records_only(open_backend: OpenBackend) -> None:
    """``nearest`` compares vectors of the same model and length, and finds current records only."""
    chance = Random(1)  # noqa: S311 - no secret
    vectors = {f"v{number:03}": [chance.randrange(-127, 128) for _ in range(24)] for number in range(60)}
    wanted = _near([chance.randrange(-127, 128) for _ in range(24)])
    async with open_backend(COLLECTIONS, RecordClock(), _ignore) as backend:
        assert await backend.nearest(None, "notes", wanted, 5) == []
        made = [_create(id, **attrs.asdict(_near(vector))) for id, vector in vectors.items()]
        others = [
            _create("other model", **attrs.asdict(_near([1] * 24, "m-2"))),
            _create("other length", **attrs.asdict(_near([1] * 16))),
            _create("half", signature=wanted.signature),
            _create("wrong", signature=wanted.signature, vector="00"),
            _create("none", signature=None, vector=None),
            _create("number", signature=7, vector=7),
            _create("no hex", signature="m-1:zzzzzz", vector=wanted.vector),
        ]
        await backend.apply(None, [*made, *others])
        records = await backend.find(None, "notes", Query(where=parse_filter("check", {}), limit=500))
        for limit in (1, 10, 100):
            found = await backend.nearest(None, "notes", wanted, limit)
            exact = nearest(records, ("signature", "vector"), wanted, limit)
            assert [one["id"] for one in found] == [one["id"] for one in exact]
            for one, best in zip(found, exact, strict=True):
                assert abs(one["distance"] - best["distance"]) < 1e-5
                assert {**one, "distance": 0} == {**best, "distance": 0}
        assert len(found) == 60
        first, second = found[0]["id"], found[1]["id"]
        await backend.apply(None, [_delete(first), _update(second, signature=None)])
        assert [one["id"] for one in await backend.nearest(None, "notes", wanted, 2)] == [
            one["id"] for one in exact[2:4]
        ]


def _near(vector: Sequence[int], model: str = "m-1") -> Near:
    bits = "".join("1" if component > 0 else "0" for component in vector)
    signature = f"{model}:{int(bits, 2):0{len(vector) // 4}x}"
    return Near(signature, bytes(component & 255 for component in vector).hex())


async def check_search_accepts_any_text(open_backend: OpenBackend) -> None:
    """Nothing that a user types is an operator or an error."""
    async with open_backend(COLLECTIONS, RecordClock(), _ignore) as backend:
        await backend.apply(
            None, [_create("a", text="near the quay"), _create("b", text="it's 50% AND more")]
        )
        for text in (
            '"',
            "quay OR",
            "NEAR(quay, 1)",
            "text:quay",
            "quay*",
            "-quay",
            "^quay",
            "'); --",
            "_ quay",
        ):
            assert await _found(backend, text) in ({"a"}, set(), {"a", "b"}), text
        assert await _found(backend, "text:quay") == {"a"}
        for nothing in ("", "   ", "_", "%", "\0"):
            assert await _found(backend, nothing) == set(), nothing
        assert await _found(backend, "quay " * 5000) == {"a"}


async def check_search_ignores_how_accents_are_encoded(open_backend: OpenBackend) -> None:
    """A search matches composed and decomposed characters, in the record and in the query."""
    one, two = "r\u00e9sum\u00e9", "re\u0301sume\u0301"
    async with open_backend(COLLECTIONS, RecordClock(), _ignore) as backend:
        await backend.apply(None, [_create("one", text=one), _create("two", text=f"my {two.upper()}")])
        for text in (one, two):
            assert await _found(backend, text) == {"one", "two"}


async def _found(backend: Backend, text: str) -> set[str]:
    return {record["id"] for record in await backend.search(None, "notes", text, 10)}


async def check_returned_record_is_a_copy(open_backend: OpenBackend) -> None:
    """Changing a returned record does not change the stored one."""
    async with open_backend(COLLECTIONS, RecordClock(), _ignore) as backend:
        given: dict[str, Any] = {"tags": ["x"]}
        (change,) = await backend.apply(None, [_create("a", **given)])
        assert change.record is not None
        change.record["tags"].append("y")
        for record in (
            await backend.get(None, "notes", "a"),
            (await backend.find(None, "notes", Query()))[0],
        ):
            assert record is not None
            assert record["tags"] == ["x"]
            record["tags"].append("z")
        again = await backend.get(None, "notes", "a")
        assert again is not None
        assert again["tags"] == ["x"]


async def check_no_update_is_lost(open_backend: OpenBackend) -> None:
    """Fifty tasks each add one, with the version that they read."""
    async with open_backend(COLLECTIONS, RecordClock(), _ignore) as backend:
        await backend.apply(None, [_create("a", n=0)])

        async def add_one() -> None:
            while True:
                record = await backend.get(None, "notes", "a")
                assert record is not None
                try:
                    await backend.apply(None, [_update("a", record["version"], n=record["n"] + 1)])
                except Conflict:
                    continue
                return

        async with trio.open_nursery() as nursery:
            for _ in range(50):
                nursery.start_soon(add_one)
        record = await backend.get(None, "notes", "a")
        assert record is not None
        assert (record["n"], record["version"]) == (50, 51)


async def check_transfers_keep_the_sum(open_backend: OpenBackend) -> None:
    """Fifty tasks move amounts between five records, in atomic batches with expected versions."""
    ids = [f"{number}" for number in range(5)]
    async with open_backend(COLLECTIONS, RecordClock(), _ignore) as backend:
        await backend.apply(None, [_create(id, n=100) for id in ids])
        conflicts = 0

        async def move(number: int) -> None:
            nonlocal conflicts
            giver, taker = ids[number % 5], ids[(number % 5 + 1 + number // 5 % 4) % 5]
            while True:
                gives, takes = [await backend.get(None, "notes", id) for id in (giver, taker)]
                assert gives is not None
                assert takes is not None
                operations = [
                    _update(giver, gives["version"], n=gives["n"] - number),
                    _update(taker, takes["version"], n=takes["n"] + number),
                ]
                try:
                    await backend.apply(None, operations)
                except Conflict:
                    conflicts += 1
                    continue
                return

        async with trio.open_nursery() as nursery:
            for number in range(50):
                nursery.start_soon(move, number)
        found = [record for record in [await backend.get(None, "notes", id) for id in ids] if record]
        assert sum(record["n"] for record in found) == 500
        # Each transfer increments the version of two records once, however often it was retried.
        assert sum(record["version"] for record in found) == 5 + 2 * 50
        assert conflicts


async def check_failing_writer_does_not_affect_others(open_backend: OpenBackend) -> None:
    """Writes that share a commit succeed or fail independently."""
    failed: list[str] = []
    async with open_backend(COLLECTIONS, RecordClock(), _ignore) as backend:

        async def write(id: str, *, good: bool) -> None:
            operations = [_create(id)] if good else [_create(id), _update("nobody")]
            try:
                await backend.apply(None, operations)
            except NotFound:
                failed.append(id)

        async with trio.open_nursery() as nursery:
            for number in range(40):
                nursery.start_soon(partial(write, f"r{number:02}", good=number % 3 != 0))
        there = {record["id"] for record in await backend.find(None, "notes", Query(limit=100))}
    bad = {f"r{number:02}" for number in range(0, 40, 3)}
    assert set(failed) == bad
    assert there == {f"r{number:02}" for number in range(40)} - bad


async def check_every_call_is_a_checkpoint(open_backend: OpenBackend) -> None:
    """A call that is cancelled before it begins changes nothing."""
    told: list[str] = []
    async with open_backend(COLLECTIONS, RecordClock(), _telling(told)) as backend:
        with trio.CancelScope() as scope:
            scope.cancel()
            await backend.apply(None, [_create("a")])
        assert scope.cancelled_caught
        for call in (
            lambda: backend.get(None, "notes", "a"),
            lambda: backend.find(None, "notes", Query()),
            lambda: backend.search(None, "notes", "x", 1),
            lambda: backend.count(None, "notes", Query().where),
            lambda: backend.find_ids(None, "notes", Query()),
            lambda: backend.get_many(None, "notes", ["a"]),
            lambda: backend.explain(None, "notes", Query()),
            lambda: backend.figures(None),
        ):
            with trio.CancelScope() as scope:
                scope.cancel()
                await call()
            assert scope.cancelled_caught
        assert await backend.get(None, "notes", "a") is None
        assert told == []


async def check_pages_add_up_to_the_whole_list(open_backend: OpenBackend) -> None:
    """In every order, keyset pagination returns each record exactly once, also among equal sort values."""
    async with open_backend(COLLECTIONS, RecordClock(), _ignore) as backend:
        await backend.apply(None, [_create(f"r{number}", **data) for number, data in enumerate(RECORDS)])
        for sort in SORTS:
            keys = parse_sort("check", sort)
            whole = await backend.find(None, "notes", Query(sort=keys))
            for size in (1, 3):
                paged: list[Record] = []
                while page := await backend.find(None, "notes", _next_page(keys, size, paged)):
                    paged.extend(page)
                    assert len(paged) <= len(whole), (sort, size)
                assert paged == whole, (sort, size)


def _next_page(keys: tuple[SortKey, ...], size: int, before: list[Record]) -> Query:
    return Query(sort=keys, limit=size, after=position_of(before[-1], keys) if before else None)


async def check_cursor_survives_changes_of_its_record(open_backend: OpenBackend) -> None:
    """The records after a cursor stay the same if the record of the cursor is deleted or others change."""
    async with open_backend(COLLECTIONS, RecordClock(), _ignore) as backend:
        await backend.apply(None, [_create(id, kind="same") for id in "abcde"])
        keys = parse_sort("check", ["kind"])
        place = position_of((await backend.find(None, "notes", Query(sort=keys, limit=2)))[1], keys)
        await backend.apply(None, [_delete("b"), _create("bb", kind="same"), _update("c", kind="other")])
        found = await backend.find(None, "notes", Query(sort=keys, after=place))
        assert [record["id"] for record in found] == ["bb", "d", "e"]


async def check_count_equals_number_of_matches(open_backend: OpenBackend) -> None:
    """``count`` returns the number of records that match, for every filter; 0 without a database."""
    async with open_backend(COLLECTIONS, RecordClock(), _ignore) as backend:
        await backend.apply(None, [_create(f"r{number}", **data) for number, data in enumerate(RECORDS)])
        for given in FILTERS:
            where = parse_filter("check", given)
            found = await backend.find(None, "notes", Query(where=where))
            assert await backend.count(None, "notes", where) == len(found), given
            for sort in (["-n"], ["tags.0"]):
                query = Query(where=where, sort=parse_sort("check", sort), limit=4)
                wanted = [record["id"] for record in await backend.find(None, "notes", query)]
                assert await backend.find_ids(None, "notes", query) == wanted, (given, sort)
        assert await backend.count("nobody", "notes", parse_filter("check", {})) == 0
        assert await backend.find_ids("nobody", "notes", Query()) == []


async def check_get_many_keeps_the_order(open_backend: OpenBackend) -> None:
    """``get_many`` returns records in the requested order and leaves out missing ones."""
    async with open_backend(COLLECTIONS, RecordClock(), _ignore) as backend:
        await backend.apply(None, [_create(f"r{number}", **data) for number, data in enumerate(RECORDS)])
        found = await backend.get_many(None, "notes", ["r7", "none", "r2"])
        assert found == [await backend.get(None, "notes", id) for id in ("r7", "r2")]
        many = [f"x{number}" for number in range(500)]
        assert [r["id"] for r in await backend.get_many(None, "notes", [*many, "r1"])] == ["r1"]
        assert await backend.get_many(None, "notes", []) == []
        assert await backend.get_many("nobody", "notes", ["r1"]) == []


async def check_statistics_per_collection(open_backend: OpenBackend) -> None:
    """Counts and sizes are per collection and database; a database that does not exist has zeros."""
    async with open_backend(COLLECTIONS, RecordClock(), _ignore) as backend:
        await backend.apply("u1", [_create("a", text="ä"), _create("b"), _create("c", "things", n=1)])
        (last,) = await backend.apply("u1", [_update("a", n=2)])
        assert last.record is not None
        told = (await backend.figures("u1")).collections
        assert {name: found.count for name, found in told.items()} == {
            "notes": 2,
            "notes_text": 0,
            "things": 1,
        }
        assert told["notes"].bytes == len('{"text":"ä","n":2}{}'.encode())
        assert told["notes"].updated_at == last.record["updated_at"]
        assert told["notes_text"] == CollectionFigures()
        await backend.apply("u1", [_delete("a")])
        assert (await backend.figures("u1")).collections["notes"].count == 1
        nothing = await backend.figures("nobody")
        assert nothing.collections == dict.fromkeys(told, CollectionFigures())
        assert (nothing.disk_bytes, nothing.schema) == (0, None)


async def check_explanation_contains_no_data(open_backend: OpenBackend) -> None:
    """Every query can be explained, also without a database; the explanation says what is done in Python."""
    async with open_backend(COLLECTIONS, RecordClock(), _ignore) as backend:
        await backend.apply(None, [_create("a", kind="secret")])
        for user in (None, "nobody"):
            for given in FILTERS:
                for sort in SORTS:
                    query = Query(where=parse_filter("check", given), sort=parse_sort("check", sort))
                    told = await backend.explain(user, "notes", query)
                    assert told.exact is (not told.left), (given, sort)
                    assert told.exact is False or told.sql is not None
                    assert "secret" not in str(told)


def _telling(told: list[str]) -> OnChange:
    def tell(_user: str | None, changes: Sequence[Change]) -> None:
        told.extend(f"{change.verb} {change.record['id']}" for change in changes if change.record is not None)

    return tell


async def check_restore_brings_back_the_backup(open_backend: OpenBackend) -> None:
    """``restore`` brings back records, text index and count of one user, and changes no other user."""
    async with open_backend(COLLECTIONS, RecordClock(), _ignore) as backend:
        await backend.apply(None, [_create("mine", text="ships")])
        for id in ("a", "b"):
            await backend.apply("joel", [_create(id, text="ships")])
            assert (await backend.backup("joel", f"with {id}"))["name"] == f"with {id}"
        await backend.apply("joel", [_create("c")])
        assert await backend.size("joel", "notes") == 3
        names = [each["name"] for each in await backend.backups("joel")]
        assert names == ["with b", "with a"]
        assert await backend.backups(None) == []
        for name, ids in ((None, ["a", "b"]), ("with a", ["a"]), ("with b", ["a", "b"])):
            assert (await backend.restore("joel", name))["name"] == (name or "with b")
            found = await backend.find("joel", "notes", Query(sort=parse_sort("x", ["id"])))
            assert [record["id"] for record in found] == ids
            assert len(await backend.search("joel", "notes", "ships", 5)) == len(ids)
            assert await backend.size("joel", "notes") == len(ids)
        await backend.apply("joel", [_create("c"), _delete("a")])
        await backend.restore("joel", None)
        assert await backend.size("joel", "notes") == 2
        assert await backend.size(None, "notes") == 1


async def check_reset_database_is_empty_and_writable(open_backend: OpenBackend) -> None:
    """``reset`` also works for a database that did not exist, and leaves other databases unchanged."""
    async with open_backend(COLLECTIONS, RecordClock(), _ignore) as backend:
        await backend.apply(None, [_create("mine")])
        for _ in range(2):
            await backend.reset("joel")
            assert await backend.size("joel", "notes") == 0
            await backend.apply("joel", [_create("a")])
        assert await backend.size("joel", "notes") == 1
        assert await backend.size(None, "notes") == 1


async def check_missing_backup_raises_not_found(open_backend: OpenBackend) -> None:
    """``restore`` without a backup, and ``backup`` without a database, raise ``NotFound``."""
    async with open_backend(COLLECTIONS, RecordClock(), _ignore) as backend:
        await backend.apply(None, [_create("mine")])
        await backend.backup(None, "one")
        calls: tuple[Callable[[], Awaitable[Any]], ...] = (
            lambda: backend.backup("joel", None),
            lambda: backend.restore("joel", None),
            lambda: backend.restore(None, "two"),
        )
        for call in calls:
            try:
                await call()
            except NotFound:
                continue
            raise AssertionError("NotFound was not raised")


CHECKS: Final[tuple[Check, ...]] = tuple(
    value for name, value in list(globals().items()) if name.startswith("check_")
)
"""All checks."""
