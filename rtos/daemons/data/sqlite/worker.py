"""A thread that works on databases: most urgent first, many writes to one commit.

Law: a job that was cancelled before it began never runs. Each job's effect is
its own: jobs share a transaction, each whole or not at all, and a job is
answered only when that transaction is durable. While another program holds a
database, nobody waits but those who want that one. A read that is long moves to
the slow thread when others wait, and begins there anew; what is shaped like it
goes there at once, until one of them is short.

The thread waits for a bell, without a timeout unless another program holds a
database: where there is no work there is no wake-up. It is a daemon thread, so
that a backend that was never closed cannot hold up the end of the interpreter.
"""

from __future__ import annotations

import heapq
import math
import os
import threading
import time
from collections import OrderedDict, deque
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Any, Final

import apsw  # noqa: TID251 - the one place that knows the driver
import outcome
import trio

from rtos.daemons.data.sqlite import connection as opening
from rtos.daemons.data.sqlite.connection import reported
from rtos.errors import DaemonDown, StoreBusy, StoreCorrupt, StoreError

if TYPE_CHECKING:
    from collections.abc import Hashable

    from trio.lowlevel import Abort, RaiseCancelT, Task, TrioToken

BATCH: Final = 256
"""The most writes in one transaction."""
REPLIES: Final = 16
"""The most outcomes that are handed to their tasks in one step."""
PROGRESS_STEPS: Final = 2000
"""Instructions of SQLite's machine between two looks at the deadline."""
SLICE: Final = 0.005
"""Seconds that a read may keep others waiting."""
SHAPES: Final = 256
"""How many shapes of long reads are remembered."""
RETRY: Final = 0.005
"""Seconds until a job is tried again whose database another program holds."""


class Job:
    """One piece of work on one database, and the task that waits for it.

    A job with ``done`` writes; ``done`` is told of its result, in Trio and in the
    order of the commits, before the task goes on. One that is ``closed`` works on
    the files: the database has been closed when it runs, and its body is given
    nothing. Several that are ``together`` are done in one go, by that function, which
    is given their arguments and gives as many outcomes; what it raises is everybody's.
    One that is not ``durable`` does not ask that its commit survive a power cut. Reads
    of one ``shape`` are expected to take about as long; what has none is short.
    """

    __slots__ = (
        "argument",
        "body",
        "cancelled",
        "closed",
        "deadline",
        "done",
        "durable",
        "file",
        "level",
        "moved",
        "path",
        "running",
        "shape",
        "task",
        "together",
        "token",
        "tried",
        "writes",
    )

    def __init__(
        self,
        path: Path,
        body: Callable[..., Any] | None = None,
        *,
        level: int,
        deadline: float,
        done: Callable[[Any], None] | None = None,
        closed: bool = False,
        durable: bool = True,
        shape: Hashable = None,
        together: Callable[[apsw.Connection, list[Any]], list[outcome.Outcome[Any]]] | None = None,
        argument: Any = None,
    ) -> None:
        self.durable = durable
        self.shape = shape
        self.together = together
        self.argument = argument
        # Whether it was stopped to begin anew on the slow thread.
        self.moved = False
        self.path = path
        self.body = body
        self.done = done
        self.closed = closed
        self.writes = done is not None or closed
        # When it first found its database held by another program.
        self.tried: float | None = None
        self.level = level
        self.deadline = deadline
        self.cancelled = False
        self.running = False
        # Which file it was done on; None while it was not, or there is none.
        self.file: tuple[int, int] | None = None
        self.task: Task = trio.lowlevel.current_task()
        self.token: TrioToken = trio.lowlevel.current_trio_token()


class Worker:
    """One thread, and the databases that it has open.

    Args:
      open_database: opens the database at a path, and makes it if it is told so;
        runs on the thread.
      capacity: how many databases it keeps open.
      now: reads the clock of the deadlines; from any thread.
      on_corrupt: told of a damaged database, closed, on the thread; gives the error to raise.
      slow: the worker to which long reads move; ``None`` for this one to keep them.
    """

    def __init__(
        self,
        number: int,
        open_database: Callable[[Path, bool], apsw.Connection | None],
        *,
        capacity: int,
        now: Callable[[], float],
        on_corrupt: Callable[[Path, StoreCorrupt], StoreCorrupt] = lambda _, error: error,
        slow: Worker | None = None,
    ) -> None:
        self._slow = slow
        # Of the reads that have moved here lately.
        self.shapes: OrderedDict[Hashable, None] = OrderedDict()
        self._began = 0.0
        self._open_database = open_database
        self._capacity = capacity
        self._now = now
        self._on_corrupt = on_corrupt
        self._connections: OrderedDict[Path, apsw.Connection] = OrderedDict()
        # Which file each of them was opened on.
        self._files: dict[Path, tuple[int, int] | None] = {}
        self._jobs: list[tuple[int, float, int, Job]] = []
        # What waits and may be done together: writes, and reads of single records, by database.
        self._groups: dict[_Group, dict[Job, None]] = {}
        self._arrivals = 0
        self._lock = threading.Lock()
        # Rung when there is work and the thread waits for some; a condition takes three times as long.
        self._bell: SimpleQueue[None] = SimpleQueue()
        self._idle = False
        self._closing = False
        self._current: Job | None = None
        self._replies = _Replies()
        # What another program keeps from being done, and when that is tried again.
        self._put_back: list[Job] = []
        self._again_at = 0.0
        self._thread = threading.Thread(target=self._main, name=f"rtos-store-{number}", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    async def run(self, job: Job) -> Any:
        """Have a job done, and wait for its outcome.

        Always a checkpoint. A cancellation takes it back if it has not begun,
        interrupts it if it reads, and waits for its end if it writes.
        """
        await trio.lowlevel.checkpoint_if_cancelled()
        if self._slow is not None and job.shape is not None and job.shape in self._slow.shapes:
            self._slow.take(job)
        else:
            self.take(job)

        def abort(_: RaiseCancelT) -> Abort:
            with self._lock:
                job.cancelled = True
                begun = job.running
                self._groups.get(_group_of(job), {}).pop(job, None)
            if not begun:
                return trio.lowlevel.Abort.SUCCEEDED
            if job.writes:
                return trio.lowlevel.Abort.FAILED
            # The progress handler sees the mark. Nobody waits for it: what a
            # read would have found is of no use to anyone any more.
            return trio.lowlevel.Abort.SUCCEEDED

        return await trio.lowlevel.wait_task_rescheduled(abort)

    def take(self, job: Job) -> None:
        """Put a job in its place. From any thread.

        Raises:
          DaemonDown: it is closed.
        """
        with self._lock:
            if self._closing:
                raise DaemonDown("data", "it is closed")
            self._push(job)
            self._ring()

    def take_long(self, job: Job) -> None:
        """``take`` one that has moved here; those of its shape come here at once from now on."""
        with self._lock:
            self.shapes[job.shape] = None
            self.shapes.move_to_end(job.shape)
            if len(self.shapes) > SHAPES:
                self.shapes.popitem(last=False)
        self.take(job)

    def _ring(self) -> None:
        if self._idle:
            self._idle = False
            self._bell.put(None)

    def close(self) -> None:
        """Let the thread finish what it has, close its databases, and end. Does not wait."""
        with self._lock:
            self._closing = True
            self._ring()

    def join(self) -> None:
        """Wait for the thread. Blocks."""
        self._thread.join()

    def _push(self, job: Job) -> None:
        self._arrivals += 1
        heapq.heappush(self._jobs, (job.level, job.deadline, self._arrivals, job))
        if job.together is not None or (job.writes and not job.closed):
            self._groups.setdefault(_group_of(job), {})[job] = None

    # On the thread.

    def _main(self) -> None:
        while jobs := self._next():
            self._do(jobs)
        for connection in self._connections.values():
            close(connection)

    def _next(self) -> list[Job]:
        """What is to be done now; nothing at the end."""
        while True:
            with self._lock:
                if self._put_back and time.monotonic() >= self._again_at:
                    for job in self._put_back:
                        self._push(job)
                    self._put_back = []
                jobs = self._take()
                if jobs or (self._closing and not self._put_back):
                    return jobs
                self._idle = True
            try:
                self._bell.get(timeout=max(self._again_at - time.monotonic(), 0) if self._put_back else None)
            except Empty:
                with self._lock:
                    self._idle = False

    def _take(self) -> list[Job]:
        """The most urgent job; with all that wait and can be done together with it."""
        first = self._pop()
        if first is None:
            return []
        first.running = True
        key = _group_of(first)
        group = self._groups.pop(key, {})
        if first not in group:
            if group:
                self._groups[key] = group
            return [first]
        del group[first]
        batch = [first]
        for job in list(group):
            if len(batch) == BATCH:
                self._groups[key] = group
                break
            del group[job]
            if not job.cancelled:
                # It stays in the heap, and is passed over there.
                job.running = True
                batch.append(job)
        return batch

    def _pop(self) -> Job | None:
        while self._jobs:
            job = heapq.heappop(self._jobs)[3]
            if not job.cancelled and not job.running:
                return job
        return None

    def _do(self, jobs: list[Job]) -> None:
        # Whatever goes wrong, everybody is answered and the thread goes on: a task
        # that waits for an answer that never comes could not be told from a slow disk.
        first = jobs[0]
        try:
            replies = self._outcomes(first, jobs)
        except Exception as error:  # noqa: BLE001 - it is the callers' to see
            replies = [outcome.Error(_own(error)) for _ in jobs]
        failed = any(isinstance(reply, outcome.Error) for reply in replies)
        if failed:
            replies = self._after_failure(first.path, replies)
        for job, reply in zip(jobs, replies, strict=True):
            if job.moved:
                self._move(job)
            elif not (failed and self._comes_again(job, reply)):
                self._replies.add(job, reply)
        self._replies.send(first.token)

    def _outcomes(self, first: Job, jobs: list[Job]) -> list[outcome.Outcome[Any]]:
        if first.closed:
            self._forget(first.path)
            assert first.body is not None
            return [outcome.Value(first.body())]
        connection = self._connection(first)
        for job in jobs:
            job.file = self._files.get(first.path)
        if connection is None:
            return [outcome.Value(None) for _ in jobs]
        if first.writes:
            return self._write(connection, jobs)
        if first.together is not None:
            return self._read_together(connection, jobs)
        return [self._read(connection, first)]

    def _after_failure(self, path: Path, replies: list[outcome.Outcome[Any]]) -> list[outcome.Outcome[Any]]:
        """The replies, with what became of the database if it is damaged."""
        if any(_is_broken(reply) for reply in replies):
            self._forget(path)
        told = {index: reply.error for index, reply in enumerate(replies) if isinstance(reply, outcome.Error)}
        corrupt = next((error for error in told.values() if isinstance(error, StoreCorrupt)), None)
        if corrupt is None:
            return replies
        try:
            error = self._on_corrupt(path, corrupt)
        except Exception:  # noqa: BLE001 - it stays where it is, and what is wrong with it is told all the same
            error = corrupt
        error.__cause__ = corrupt.__cause__
        return [
            outcome.Error(_own(error)) if isinstance(told.get(index), StoreCorrupt) else reply
            for index, reply in enumerate(replies)
        ]

    def _comes_again(self, job: Job, reply: outcome.Outcome[Any]) -> bool:
        """Whether a job is put back because another program holds its database."""
        if not (isinstance(reply, outcome.Error) and isinstance(reply.error, StoreBusy)) or job.closed:
            return False
        now = time.monotonic()
        job.tried = now if job.tried is None else job.tried
        with self._lock:
            if job.cancelled or (now - job.tried) * 1000 >= opening.BUSY_MS or job.deadline <= self._now():
                return False
            job.running = False
            self._put_back.append(job)
            self._again_at = now + RETRY
        return True

    def _read_together(self, connection: apsw.Connection, jobs: list[Job]) -> list[outcome.Outcome[Any]]:
        with reported("read", jobs[0].path):
            return _together(connection, jobs)

    def _move(self, job: Job) -> None:
        assert self._slow is not None
        job.moved = job.running = False
        try:
            self._slow.take_long(job)
        except DaemonDown as error:
            self._replies.add(job, outcome.Error(error))

    def _read(self, connection: apsw.Connection, job: Job) -> outcome.Outcome[Any]:
        self._current = job
        self._began = time.monotonic()
        # The progress handler counts SQLite's steps, and is blind to what is done with a row
        # out here: hundreds of long ones could pass between two looks.
        connection.row_trace = self._look_up
        try:
            with reported("read", job.path):
                assert job.body is not None
                return outcome.Value(job.body(connection))
        except apsw.InterruptError:
            return outcome.Error(
                StoreError("read", "its deadline has passed", "ask for less, or allow more time")
            )
        except Exception as error:  # noqa: BLE001 - it is the caller's to see
            return outcome.Error(error)
        finally:
            self._current = None
            connection.row_trace = None
            if time.monotonic() - self._began < SLICE:
                self.shapes.pop(job.shape, None)

    def _write(self, connection: apsw.Connection, jobs: list[Job]) -> list[outcome.Outcome[Any]]:
        # One that needs its commit on the disk takes the others along; that costs them nothing.
        if any(job.durable for job in jobs):
            return self._commit(connection, jobs)
        with reported("write", jobs[0].path):
            connection.execute("PRAGMA synchronous = NORMAL")
        try:
            return self._commit(connection, jobs)
        finally:
            # Not where it was given up: its next connection is opened as it should be.
            if self._connections.get(jobs[0].path) is connection:
                connection.execute("PRAGMA synchronous = FULL")

    def _commit(self, connection: apsw.Connection, jobs: list[Job]) -> list[outcome.Outcome[Any]]:
        replies: list[outcome.Outcome[Any]] = []
        try:
            with reported("write", jobs[0].path):
                connection.execute("BEGIN IMMEDIATE")
                if jobs[0].together is not None:
                    replies = _together(connection, jobs)
                else:
                    replies.extend(_in_savepoint(connection, job) for job in jobs)
                connection.execute("COMMIT")
        except Exception as error:  # noqa: BLE001 - it is the callers' to see
            self._roll_back(connection, jobs[0].path)
            # Whoever had failed on its own keeps its own reason.
            own = [reply if isinstance(reply, outcome.Error) else None for reply in replies]
            own += [None] * (len(jobs) - len(own))
            return [reply or outcome.Error(_own(error)) for reply in own]
        return replies

    def _roll_back(self, connection: apsw.Connection, path: Path) -> None:
        try:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
        except apsw.Error:
            # Closing it undoes what is left; the next job opens it anew.
            self._forget(path)

    def _connection(self, job: Job) -> apsw.Connection | None:
        """The database of a job; ``None`` if it reads from one that is not there."""
        if job.path in self._connections and self._files[job.path] != file_at(job.path):
            # Deleted, or a backup was put in its place. A write to the file that
            # was there would be acknowledged, and then be gone.
            self._forget(job.path)
        connection = self._connections.get(job.path)
        if connection is None:
            connection = self._open_database(job.path, job.writes)
            if connection is None:
                return None
            # Who waits inside SQLite holds up everybody: a job is put back instead.
            connection.set_busy_timeout(0)
            connection.set_progress_handler(self._must_stop, PROGRESS_STEPS)
            while len(self._connections) >= self._capacity:
                self._forget(next(iter(self._connections)))
            self._connections[job.path] = connection
            self._files[job.path] = file_at(job.path)
        self._connections.move_to_end(job.path)
        return connection

    def _forget(self, path: Path) -> None:
        connection = self._connections.pop(path, None)
        self._files.pop(path, None)
        if connection is not None:
            close(connection)

    def _look_up(self, _cursor: apsw.Cursor, row: tuple[Any, ...]) -> tuple[Any, ...]:
        if self._must_stop():
            raise apsw.InterruptError("interrupted between two rows")
        return row

    def _must_stop(self) -> bool:
        job = self._current
        if job is None:
            return False
        if job.cancelled or (job.deadline != math.inf and self._now() > job.deadline):
            return True
        # Read without the lock: at worst it moves a look too late, or for nobody.
        if self._slow is not None and self._jobs and time.monotonic() - self._began > SLICE:
            job.moved = job.shape is not None
        return job.moved


_Group = tuple[Path, bool, Callable[..., Any] | None]


def _group_of(job: Job) -> _Group:
    """What it may be done together with."""
    return job.path, job.writes, job.together


def _together(connection: apsw.Connection, jobs: list[Job]) -> list[outcome.Outcome[Any]]:
    together = jobs[0].together
    assert together is not None
    return together(connection, [job.argument for job in jobs])


def _in_savepoint(connection: apsw.Connection, job: Job) -> outcome.Outcome[Any]:
    # Not the driver's own context manager: where SQLite has given up the whole
    # transaction, it hides the reason behind "no such savepoint".
    assert job.body is not None
    connection.execute("SAVEPOINT job")
    try:
        result = job.body(connection)
    except (apsw.FullError, apsw.IOError, apsw.CorruptError):
        # The file's fault, not the job's: everything has to go back.
        raise
    except Exception as error:
        # What came after would be committed on its own, although it is answered as failed.
        if not connection.in_transaction:
            raise
        connection.execute("ROLLBACK TO job")
        connection.execute("RELEASE job")
        return outcome.Error(error)
    connection.execute("RELEASE job")
    return outcome.Value(result)


def _is_broken(reply: outcome.Outcome[Any]) -> bool:
    # Opened anew for the next job, so that what was mended is found. Not where the
    # disk is full: a new connection needs room for its index of the log, to read even.
    if not isinstance(reply, outcome.Error):
        return False
    return isinstance(reply.error, StoreCorrupt) or isinstance(reply.error.__cause__, _BAD_STATE)


_BAD_STATE: Final = (apsw.IOError, apsw.CantOpenError, apsw.ReadOnlyError, apsw.PermissionsError)


def file_at(path: Path) -> tuple[int, int] | None:
    """Which file stands at a path; ``None`` for none."""
    try:
        found = os.stat(path)  # noqa: PTH116 - on every job, and half as fast by way of the path
    except OSError:
        return None
    return found.st_dev, found.st_ino


def close(connection: apsw.Connection) -> None:
    """Close a database; whatever comes of it."""
    # What was acknowledged is in the log already; closing only tidies it up.
    with suppress(apsw.Error):
        connection.close()


def _own(error: Exception) -> Exception:
    """A copy, since several tasks must not raise one and the same exception."""
    try:
        copy = type(error)(*error.args)
    except TypeError:
        return error
    copy.__cause__ = error.__cause__
    return copy


class _Replies:
    """Outcomes on their way from the thread to their tasks, in the order in which they came to be.

    The loop is asked once for all that gather until it comes, and is given few in one
    step, so that a large transaction does not hold up whoever is urgent.
    """

    def __init__(self) -> None:
        self._waiting: deque[tuple[Job, outcome.Outcome[Any]]] = deque()
        self._asked = False

    def add(self, job: Job, reply: outcome.Outcome[Any]) -> None:
        """Put one outcome to those that are sent next. On the thread."""
        self._waiting.append((job, reply))

    def send(self, token: TrioToken) -> None:
        """Ask the loop to come for them, once they are all there: it runs at once, and this thread stops."""
        # Set by the thread and unset by the loop before it looks: none is left lying.
        if self._waiting and not self._asked:
            self._ask(token)

    def _ask(self, token: TrioToken) -> None:
        self._asked = True
        try:
            token.run_sync_soon(self._deliver)
        except trio.RunFinishedError:
            self._waiting.clear()

    def _deliver(self) -> None:
        self._asked = False
        for _ in range(REPLIES):
            if not self._waiting:
                return
            _answer(*self._waiting.popleft())
        if self._waiting and not self._asked:
            self._ask(trio.lowlevel.current_trio_token())


def _answer(job: Job, reply: outcome.Outcome[Any]) -> None:
    """In the loop."""
    done, job.done = job.done, None  # which may know the job
    if done is not None and isinstance(reply, outcome.Value):
        try:
            done(reply.value)
        except Exception as error:  # noqa: BLE001 - here it would end Trio's loop, and all tasks with it
            reply = outcome.Error(error)
    # A read that was cancelled has been answered by its cancellation.
    if job.writes or not job.cancelled:
        trio.lowlevel.reschedule(job.task, reply)
