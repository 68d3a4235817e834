"""Passages: what a document is cut into before it can be recalled.

Pure: bytes and a name come in, passages go out; who reads files or stores
memories is elsewhere.

A passage is one paragraph, list, table or code fence under its trail of
headings; a paragraph that announces what follows (`... :`) stays with it.
Larger ones are cut between lines, then between words.

Laws: every word of the document but its headings is in a passage, except
where the same text comes twice. One document gives the same passages, under the
same ids, every time; so what is learned twice is there once.
"""

from __future__ import annotations

import hashlib
import itertools
import re
from typing import TYPE_CHECKING, Final

import attrs

from rtos.errors import CommandRejected

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

MAX_PASSAGE: Final = 800
"""The longest passage, in characters."""
MAX_DOCUMENT: Final = 4 * 1024 * 1024
"""The largest document, in bytes."""
MAX_HEADING: Final = 500
"""The longest trail of headings, in characters; the outermost give way."""

_HEADING: Final = re.compile(r" {0,3}(#{1,6})[ \t]+(.*)")
_FENCE: Final = re.compile(r" {0,3}(`{3,}|~{3,})")


@attrs.frozen
class Passage:
    """A piece of a document, small enough to be quoted."""

    id: str
    """SHA-256 of the document's name and the text, in hexadecimal."""
    text: str
    source: str
    """For people: `notes.md, line 7` or `notes.md, lines 7-9`."""
    heading: str
    """The headings above, outermost first, as `A > B`; empty if there are none."""
    line: int = 0
    """Where it begins, from 1; 0 if that is not known any more."""
    strength: float = 1.0
    """How strong the memory of it is, 0..1."""


@attrs.frozen
class _Block:
    """Text that belongs together, from line to line, and the headings above it."""

    first: int
    last: int
    text: str
    trail: tuple[str, ...]


def split(document: bytes, name: str) -> tuple[Passage, ...]:
    """Cut a Markdown or plain text document into passages, in its order.

    Args:
      document: The content of the file.
      name: The name of the file, as it shall be cited.

    Raises:
      CommandRejected: the document is not text in UTF-8, or larger than
        `MAX_DOCUMENT`; with ``parameter="document"``.
    """
    lines = _decoded(document, name).split("\n")
    pieces = itertools.chain.from_iterable(_cut(block) for block in _announced(_blocks(lines)))
    found: dict[str, Passage] = {}
    for piece in filter(lambda piece: piece.text.strip(), pieces):
        made = _passage(piece, name)
        found.setdefault(made.id, made)
    return tuple(found.values())


def passage_id(name: str, text: str) -> str:
    """The id that a text from a document of that name always has."""
    return hashlib.sha256(f"{name}\0{text}".encode("utf-8", "surrogatepass")).hexdigest()


def _decoded(document: bytes, name: str) -> str:
    if len(document) > MAX_DOCUMENT:
        raise _unreadable(
            f"{name!r} has {len(document)} bytes, more than {MAX_DOCUMENT}", "cut it into parts"
        )
    try:
        text = document.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise _unreadable(
            f"{name!r} is not UTF-8 at byte {error.start}", "convert it to UTF-8 text"
        ) from error
    if "\0" in text:
        raise _unreadable(f"{name!r} has a NUL byte and so is no text", "convert it to UTF-8 text")
    # Not splitlines: it knows ends of lines that editors do not count, and line numbers are cited.
    return text.replace("\r\n", "\n").replace("\r", "\n")


def _unreadable(reason: str, remedy: str) -> CommandRejected:
    return CommandRejected(command="learn", reason=reason, parameter="document", remedy=remedy)


def _blocks(lines: list[str]) -> Iterator[_Block]:
    """The document as runs of lines: a fence is one run, a blank line or a heading ends any other."""
    trail: dict[int, str] = {}
    start = 0
    while start < len(lines):
        if heading := _HEADING.fullmatch(lines[start]):
            level = len(heading[1])
            trail = {depth: text for depth, text in trail.items() if depth < level} | {
                level: _title(heading[2])
            }
            start += 1
        elif not lines[start].strip():
            start += 1
        else:
            end = _end_of_fence(lines, start) or _end_of_run(lines, start)
            titles = tuple(title for _, title in sorted(trail.items()) if title)
            yield _Block(first=start + 1, last=end, text="\n".join(lines[start:end]), trail=titles)
            start = end


def _title(text: str) -> str:
    """The text of a heading without the marks that may close it: `A #` is `A`, and `C#` stays `C#`."""
    text = text.strip()
    bare = text.rstrip("#")
    return bare.rstrip() if bare.endswith((" ", "\t")) or not bare else text


def _end_of_fence(lines: list[str], start: int) -> int | None:
    opened = _FENCE.match(lines[start])
    if opened is None:
        return None
    mark = opened[1]
    for i in range(start + 1, len(lines)):
        bare = lines[i].strip()
        if len(bare) >= len(mark) and not bare.strip(mark[0]):
            return i + 1
    return len(lines)


def _end_of_run(lines: list[str], start: int) -> int:
    for i in range(start + 1, len(lines)):
        if not lines[i].strip() or _HEADING.fullmatch(lines[i]) or _FENCE.match(lines[i]):
            return i
    return len(lines)


def _announced(blocks: Iterable[_Block]) -> Iterator[_Block]:
    """Join what announces with what it announces, where both are under one heading and fit."""
    held: _Block | None = None
    for block in blocks:
        joined = _joined(held, block) if held is not None else None
        if held is not None and joined is None:
            yield held
        held = joined or block
        if not held.text.rstrip().rstrip("*_").endswith(":"):
            yield held
            held = None
    if held is not None:
        yield held


def _joined(held: _Block, block: _Block) -> _Block | None:
    text = held.text + "\n" * (block.first - held.last) + block.text
    if held.trail != block.trail or len(text) > MAX_PASSAGE:
        return None
    return attrs.evolve(block, first=held.first, text=text)


def _cut(block: _Block) -> Iterator[_Block]:
    """Cut what is too large into parts of about one size: between lines, and a line between words."""
    if len(block.text) <= MAX_PASSAGE:
        yield block
        return
    fair = len(block.text) / -(-len(block.text) // MAX_PASSAGE)
    kept: list[str] = []
    size = 0
    first = last = block.first
    for number, line in enumerate(block.text.split("\n"), block.first):
        for part in _parts(line):
            if kept and (size >= fair or size + len(part) > MAX_PASSAGE):
                yield attrs.evolve(block, first=first, last=last, text="\n".join(kept))
                kept, size, first = [], 0, number
            kept.append(part)
            size += len(part) + 1
            last = number
    yield attrs.evolve(block, first=first, last=last, text="\n".join(kept))


def _parts(line: str) -> Iterator[str]:
    start = 0
    while len(line) - start > MAX_PASSAGE:
        space = line.rfind(" ", start + 1, start + MAX_PASSAGE)
        end = space if space > 0 else start + MAX_PASSAGE
        yield line[start:end]
        start = end + (end == space)
    yield line[start:]


def _passage(block: _Block, name: str) -> Passage:
    where = f"line {block.first}" if block.last == block.first else f"lines {block.first}-{block.last}"
    return Passage(
        id=passage_id(name, block.text),
        text=block.text,
        source=f"{name}, {where}",
        heading=" > ".join(block.trail)[-MAX_HEADING:],
        line=block.first,
    )
