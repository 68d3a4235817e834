"""Passages: where documents are cut, what is kept, and what is refused."""

import re
from contextlib import nullcontext
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rtos.errors import CommandRejected
from rtos.user.passages import MAX_DOCUMENT, MAX_PASSAGE, passage_id, split

SEED = Path(__file__).parent.parent / "data" / "user-storage-refactoring.md"


def texts(document: str) -> list[str]:
    return [passage.text for passage in split(document.encode(), "notes.md")]


def test_paragraphs_lists_and_fences_are_passages_under_their_headings() -> None:
    document = """\
Before any heading.

# A

First paragraph,
two lines.

## B

- one
- two

```python
# no heading, and the next line is no end

x = 1
```

# C
Straight after its heading.
"""
    found = split(document.encode(), "notes.md")
    assert [(one.heading, one.source, one.line) for one in found] == [
        ("", "notes.md, line 1", 1),
        ("A", "notes.md, lines 5-6", 5),
        ("A > B", "notes.md, lines 10-11", 10),
        ("A > B", "notes.md, lines 13-17", 13),
        ("C", "notes.md, line 20", 20),
    ]
    assert found[3].text.startswith("```python\n# no heading")


def test_what_announces_stays_with_what_it_announces() -> None:
    assert texts("These go:\n\n- one\n- two\n\nAnd **why**:\n\nbecause\n") == [
        "These go:\n\n- one\n- two",
        "And **why**:\n\nbecause",
    ]
    assert texts("**Delete**:\n\n```\nrm\n```\n") == ["**Delete**:\n\n```\nrm\n```"]


def test_an_announcement_does_not_cross_a_heading_and_is_not_lost_at_the_end() -> None:
    assert texts("Look:\n\n# A\n\ntext\n\nand:\n") == ["Look:", "text", "and:"]


def test_a_passage_that_would_grow_too_large_is_not_joined() -> None:
    long = "x " * (MAX_PASSAGE // 2 - 2)
    assert texts(f"Look:\n\n{long}") == ["Look:", long]


def test_headings_close_deeper_ones() -> None:
    found = split(b"# A\n### C\nx\n## B\ny\n#hashtag is text\n# D #\nz", "n")
    assert [(one.heading, one.text) for one in found] == [
        ("A > C", "x"),
        ("A > B", "y\n#hashtag is text"),
        ("D", "z"),
    ]


@pytest.mark.parametrize(
    ("line", "heading"),
    [("# A #", "A"), ("## A ##   ", "A"), ("# C#", "C#"), ("#\tA", "A"), ("# #", ""), ("   # A", "A")],
)
def test_the_marks_around_a_heading(line: str, heading: str) -> None:
    assert [one.heading for one in split(f"{line}\nx".encode(), "n")] == [heading]


def test_a_fence_that_is_never_closed_ends_with_the_document() -> None:
    assert texts("```\na\n\n# b") == ["```\na\n\n# b"]


def test_a_fence_is_closed_by_its_own_kind() -> None:
    assert texts("````\n```\nx\n\ny\n````\n\nz") == ["````\n```\nx\n\ny\n````", "z"]


def test_long_lists_are_cut_between_their_lines_into_fair_parts() -> None:
    lines = [f"- item {number:03} " + "word " * 10 for number in range(30)]
    found = split("\n".join(lines).encode(), "n.md")
    assert "\n".join(one.text for one in found).split("\n") == lines
    assert min(len(one.text) for one in found) > MAX_PASSAGE / 3
    assert found[0].source == "n.md, lines 1-10"
    assert found[1].line == 11


def test_a_long_line_is_cut_between_words_and_cited_as_that_line() -> None:
    found = split(("word " * 500).strip().encode(), "n.md")
    assert all(len(one.text) <= MAX_PASSAGE for one in found)
    assert {one.source for one in found} == {"n.md, line 1"}
    assert all(set(one.text.split()) == {"word"} for one in found)


def test_line_endings_and_a_byte_order_mark_do_not_matter() -> None:
    expected = split(b"# A\n\none\ntwo\n\nthree\n", "n")
    assert split(b"\xef\xbb\xbf# A\r\n\r\none\r\ntwo\r\n\r\nthree\r\n", "n") == expected
    assert split(b"# A\r\rone\rtwo\r\rthree\r", "n") == expected


def test_learning_twice_adds_nothing_and_another_file_is_another_source() -> None:
    document = b"one\n\ntwo\n\none\n"
    first = split(document, "a.md")
    assert [one.text for one in first] == ["one", "two"], "the same text once"
    assert split(document, "a.md") == first
    assert not {one.id for one in first} & {one.id for one in split(document, "b.md")}
    assert first[0].id == passage_id("a.md", "one")
    assert re.fullmatch("[0-9a-f]{64}", first[0].id)


@pytest.mark.parametrize(
    ("document", "text"),
    [
        (b"\xff\xfe\x00", "'x.bin' is not UTF-8 at byte 0; convert it"),
        (b"fine so far\xe4", "is not UTF-8 at byte 11"),
        (b"\x7fELF\0\0", "has a NUL byte and so is no text"),
        (b"x" * (MAX_DOCUMENT + 1), "bytes, more than 4194304; cut it"),
    ],
)
def test_what_is_no_text_is_rejected(document: bytes, text: str) -> None:
    with pytest.raises(CommandRejected, match=text) as caught:
        split(document, "x.bin")
    assert caught.value.parameter == "document"


@pytest.mark.parametrize("document", [b"", b"\n\n", b"# only\n## headings\n"])
def test_what_says_nothing_has_no_passages(document: bytes) -> None:
    assert split(document, "n") == ()


LINE = st.one_of(
    st.sampled_from(["", "", "# A", "## B", "```", "~~~~", "- item", "  more:", "1. one", "look:", "text"]),
    st.text(st.sampled_from("ab c:#`-\t\u2028ä"), max_size=30),
    st.integers(1, 600).map(lambda n: "word " * n),
)


@given(st.lists(LINE, max_size=40).map("\n".join))
def test_every_word_but_the_headings_is_in_a_passage_and_no_passage_is_too_long(document: str) -> None:
    found = split(document.encode(), "n.md")
    assert all(0 < len(one.text) <= MAX_PASSAGE for one in found)
    assert all(one.text.strip() for one in found)
    kept = set(" ".join(one.text + " " + one.heading for one in found).split())
    unheaded = [line for line in document.split("\n") if not re.match(r" {0,3}#{1,6}[ \t]", line)]
    assert set(" ".join(unheaded).split()) <= kept


@given(st.lists(LINE, max_size=40).map("\n".join))
def test_sources_point_at_the_lines_they_name(document: str) -> None:
    lines = document.split("\n")
    for one in split(document.encode(), "n.md"):
        assert one.text.split("\n")[0].strip() in lines[one.line - 1]
        first, _, last = one.source.removeprefix("n.md, line").removeprefix("s").strip().partition("-")
        assert int(first) == one.line <= int(last or first) <= len(lines)
        assert one.text.split("\n")[-1] in lines[int(last or first) - 1]


@given(st.binary(max_size=200))
def test_any_bytes_are_text_or_rejected(document: bytes) -> None:
    readable = b"\0" not in document and document.decode("utf-8", "ignore").encode() == document
    with nullcontext() if readable else pytest.raises(CommandRejected, match="'n' "):
        assert all(one.text for one in split(document, "n"))


def test_the_example_document() -> None:
    found = split(SEED.read_bytes(), SEED.name)
    by_line = {one.line: one for one in found}
    assert "{userId}/data/longterm.db" in by_line[248].text
    assert by_line[248].source == "user-storage-refactoring.md, lines 248-249"
    assert by_line[248].heading.endswith("Migration Strategy > Backward Compatibility")
    assert len({one.id for one in found}) == len(found) > 40
