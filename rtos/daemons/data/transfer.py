"""The commands that carry records out of a database and into one, as JSON Lines.

A line is ``{"collection": ..., "record": {...}}``. Both ways go page by page, so
memory is bounded whatever the size. Files are in one folder and nowhere else.

Law: a file has its name when it is complete and durable; an import changes
nothing of a batch in which something is wrong, and says in which line.
"""

from __future__ import annotations

from contextlib import aclosing, contextmanager
from typing import TYPE_CHECKING, Any, Final, Literal

import attrs
import msgspec
import trio

from rtos.bus import command
from rtos.daemons.data import files
from rtos.daemons.data.collection import META
from rtos.daemons.data.group import CommandGroup
from rtos.daemons.data.lines import Line, Lines, counted
from rtos.daemons.data.query import Query, parse_filter, parse_sort
from rtos.daemons.data.requests import checked_id
from rtos.daemons.data.safety import plain_name
from rtos.errors import CommandRejected, Conflict, StoreError, StoreFull

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Iterator, Sequence
    from pathlib import Path

    from rtos.daemons.data.operation import Operation, Record

PAGE: Final = 200
"""Records in one page of an export, and in one batch of an import."""
ATTEMPTS: Final = 5
OnConflict = Literal["fail", "skip", "replace"]


class Transfer(CommandGroup):
    """``data/export`` and ``data/import``."""

    @command("data/export")
    async def export(
        self, *, to: str, collection: str | None = None, user_id: str | None = None
    ) -> dict[str, Any]:
        """Write the records of a database, or of one of its collections, to a file of JSON Lines.

        Every record is as it was when its page was read; one that was there all the time is in it once.
        """
        path = self._place("data/export", "to", to)
        names = sorted(self._requests.collections)
        if collection is not None:
            names = [self._requests.known("data/export", collection).name]
        total = sum([await self._backend.size(user_id, name) for name in names])
        done = 0
        with _reported("export to", path):
            await trio.to_thread.run_sync(files.make_folder, path.parent)
            if path.exists():
                raise CommandRejected(
                    "data/export",
                    f"there is a file {to!r} already",
                    parameter="to",
                    remedy="choose another name, or delete it",
                )
            with files.draft_of(path) as draft:
                async with await trio.to_thread.run_sync(_open_draft, draft) as file:
                    for name in names:
                        async with aclosing(self._pages(user_id, name)) as pages:
                            async for page in pages:
                                await file.write(b"".join(_line(name, record) for record in page))
                                done += len(page)
                                self._progress("export", user_id, done, max(done, total))
                await trio.to_thread.run_sync(files.put_in_place, draft, path)
        return {"path": str(path), "records": done, "bytes": path.stat().st_size}

    @command("data/import")
    async def import_records(
        self, *, from_path: str, user_id: str | None = None, on_conflict: OnConflict = "fail"
    ) -> dict[str, Any]:
        """Store the records of a file that was exported; ids stay, versions and timestamps are new.

        Done in batches, each whole or not at all. Where a line is wrong it ends before that line's batch.
        """
        path = self._place("data/import", "from_path", from_path)
        done, stored = 0, 0
        if not await trio.to_thread.run_sync(path.is_file):
            raise CommandRejected(
                "data/import",
                f"there is no file {from_path!r} in {path.parent}",
                parameter="from_path",
                remedy="look at the name",
            )
        with _reported("import", path):
            total = await trio.to_thread.run_sync(counted, path)
            with Lines(path) as lines:
                while batch := await trio.to_thread.run_sync(lines.take, PAGE):
                    writes = [self._write_of(line, done, on_conflict) for line in batch]
                    stored += await self._import(user_id, batch, writes, on_conflict, done)
                    done += len(batch)
                    self._progress("import", user_id, done, max(done, total))
        return {"path": str(path), "records": done, "stored": stored, "skipped": done - stored}

    async def _pages(self, user_id: str | None, collection: str) -> AsyncGenerator[Sequence[Record], None]:
        """All records of a collection; each page begins where the last one ended."""
        conditions: dict[str, Any] = {}
        while True:
            query = Query(
                where=parse_filter("data/export", conditions),
                sort=parse_sort("data/export", ["created_at", "id"]),
                limit=PAGE,
            )
            page = await self._backend.find(user_id, collection, query)
            if page:
                yield page
            if len(page) < PAGE:
                return
            at, id = page[-1]["created_at"], page[-1]["id"]
            conditions = {"$or": [{"created_at": {"$gt": at}}, {"created_at": at, "id": {"$gt": id}}]}

    def _write_of(self, line: Line, done: int, on_conflict: OnConflict) -> Operation:
        try:
            given = msgspec.json.decode(line.text, type=_Exported)
            # One without an id would be made anew by every import.
            id = checked_id("data/import", "id", given.record.get("id"))
            data = {name: value for name, value in given.record.items() if name not in META}
            operation = self._requests.operation(
                "data/import", {"op": "create", "collection": given.collection, "id": id, "data": data}
            )
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise _wrong(line, str(error), "mend the line", done) from None
        except CommandRejected as error:
            raise _wrong(line, error.reason, error.remedy, done) from None
        return attrs.evolve(operation, op="store") if on_conflict == "replace" else operation

    async def _import(
        self,
        user_id: str | None,
        batch: Sequence[Line],
        writes: Sequence[Operation],
        on_conflict: OnConflict,
        done: int,
    ) -> int:
        """Store a batch; how many of it."""
        for attempt in range(ATTEMPTS):
            taken = set() if on_conflict == "replace" else await self._taken(user_id, writes)
            new = []
            for line, write in zip(batch, writes, strict=True):
                key = write.collection, write.id
                if key not in taken:
                    new.append(write)
                elif on_conflict == "fail":
                    reason = f"there is a record {'/'.join(key)!r} already"
                    remedy = "import with --on_conflict=skip or --on_conflict=replace"
                    raise Conflict("data/import", f"line {line.number}: {reason}; {_before(done)}", remedy)
                if on_conflict != "replace":
                    taken.add(key)
            try:
                if new:
                    await self._backend.apply(user_id, new)
            except Conflict:
                # Somebody has made one of them since it was looked for.
                if attempt + 1 == ATTEMPTS:
                    raise
                continue
            return len(new)
        raise AssertionError("every attempt returns or raises")

    async def _taken(self, user_id: str | None, writes: Sequence[Operation]) -> set[tuple[str, str]]:
        wanted: dict[str, list[str]] = {}
        for write in writes:
            wanted.setdefault(write.collection, []).append(write.id)
        taken = set()
        for collection, ids in wanted.items():
            where = parse_filter("data/import", {"id": {"$in": ids}})
            found = await self._backend.find(user_id, collection, Query(where=where, limit=PAGE))
            taken |= {(collection, record["id"]) for record in found}
        return taken

    def _place(self, asked: str, parameter: str, name: str) -> Path:
        """Where a file is, or will be."""
        if self._exports is None:
            raise CommandRejected(asked, "this system has no folder for files", remedy="boot it on a root")
        if (
            self._exports.is_symlink()
            or (self._exports / str(plain_name(asked, parameter, name))).is_symlink()
        ):
            raise CommandRejected(
                asked,
                f"{name!r} is a symbolic link",
                parameter=parameter,
                remedy="put a real file into the folder",
            )
        return self._exports / name

    def _progress(self, what: str, user_id: str | None, done: int, total: int) -> None:
        self._bus.events.emit(f"data:{what}:progress", {"user_id": user_id, "done": done, "total": total})


class _Exported(msgspec.Struct, forbid_unknown_fields=True):
    """A line of a file."""

    collection: str
    record: dict[str, Any]


def _line(collection: str, record: Record) -> bytes:
    return msgspec.json.encode({"collection": collection, "record": record}) + b"\n"


def _open_draft(draft: Path) -> Any:
    return trio.wrap_file(files.open_new(draft))


def _wrong(line: Line, reason: str, remedy: str, done: int) -> CommandRejected:
    return CommandRejected(
        "data/import",
        f"line {line.number}: {reason}; {_before(done)}",
        parameter="from_path",
        remedy=remedy,
    )


def _before(done: int) -> str:
    return f"the {done} records before its batch are in, and nothing after" if done else "nothing was changed"


@contextmanager
def _reported(operation: str, path: Path) -> Iterator[None]:
    """Turn what the file system raises into what a host can act on."""
    try:
        yield
    except OSError as error:
        what = f"{operation} {str(path)!r}"
        if files.is_full(error):
            raise StoreFull(what, str(error.strerror), "make room on the disk") from error
        raise StoreError(what, str(error.strerror), files.remedy(error)) from error
