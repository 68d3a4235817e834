"""The programs in the tutorial, the how-to pages and the README run and print what the page shows.

A ``python`` block is a whole program. A ``text`` block right after it is its output; in it ``...`` stands
for any text. Programs run in virtual time, so that a page may sleep for seconds; those that open a whole
system or another loop use threads, which virtual time would outrun, and run in real time.
"""

from __future__ import annotations

import contextlib
import io
import logging
import re
from functools import partial
from pathlib import Path
from types import ModuleType

import attrs
import pytest
import trio
from trio.testing import MockClock

HERE = Path(__file__).parents[2]
PAGES = [
    HERE / "README.md",
    *sorted(HERE.glob("docs/tutorial/*.md")),
    *sorted(HERE.glob("docs/how-to/*.md")),
]
BLOCK = re.compile(r"^```python\n(.*?)^```\n(?:\n*```text\n(.*?)^```\n)?", re.DOTALL | re.MULTILINE)
REAL_TIME = ("open_runtime", "open_in_asyncio", "open_thread", "run_virtual")


@attrs.frozen
class Example:
    page: str
    line: int
    program: str
    output: str | None

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"

    def counted_lines(self) -> list[str]:
        """The lines that a reader has to write: no imports, no comments."""
        return [line for line in self.program.splitlines() if re.match(r"\s*(?!import |from |#)\S", line)]


def examples_of(page: Path) -> list[Example]:
    text = page.read_text()
    return [
        Example(str(page.relative_to(HERE)), text[: found.start()].count("\n") + 1, *found.groups())
        for found in BLOCK.finditer(text)
    ]


EXAMPLES = [example for page in PAGES for example in examples_of(page)]


def run(example: Example, monkeypatch: pytest.MonkeyPatch) -> str:
    if not any(name in example.program for name in REAL_TIME):
        monkeypatch.setattr(trio, "run", partial(trio.run, clock=MockClock(autojump_threshold=0)))
    module = ModuleType("__main__")
    # Tracebacks name the line of the page.
    code = compile("\n" * example.line + example.program, example.page, "exec")
    printed = io.StringIO()
    try:
        with contextlib.redirect_stdout(printed):
            exec(code, vars(module))
    finally:
        # A program may switch logging off, which would hold for the tests after it.
        logging.disable(logging.NOTSET)
    return printed.getvalue()


@pytest.mark.parametrize("example", EXAMPLES, ids=str)
def test_example_prints_what_its_page_shows(
    example: Example, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    printed = run(example, monkeypatch)
    if example.output is None:
        assert not printed
    else:
        shown = re.escape(example.output).replace(re.escape("..."), ".*")
        assert re.fullmatch(shown, printed, re.DOTALL), printed


@pytest.mark.parametrize(
    "example", [example for example in EXAMPLES if "how-to" not in example.page], ids=str
)
def test_program_of_the_tutorial_has_at_most_ten_lines(example: Example) -> None:
    assert len(example.counted_lines()) <= 10


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_each_output_belongs_to_a_program(page: Path) -> None:
    text = page.read_text()
    assert text.count("```text\n") == sum(example.output is not None for example in examples_of(page))
