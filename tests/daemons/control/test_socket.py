from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest
import trio

from rtos.daemons.control.socket import MAX_PATH, check_path, listen, removed_after
from rtos.errors import ConfigurationError


def _path_of(length: int, folder: Path) -> Path:
    """A path of so many bytes, in a folder that is there."""
    folder = folder / ("x" * (length - len(bytes(folder)) - len("/s") - 1))
    folder.mkdir()
    return folder / "s"


async def test_the_longest_path_that_is_allowed_works_and_one_more_byte_is_refused(tmp_path: Path) -> None:
    longest = _path_of(MAX_PATH, tmp_path)
    assert len(bytes(longest)) == MAX_PATH
    async with await listen(longest):
        await (await trio.open_unix_socket(longest)).aclose()
    with pytest.raises(ConfigurationError, match="more than 107 bytes; boot on a folder with a shorter path"):
        check_path(longest.with_name("so"))


def test_bytes_are_counted_and_not_characters() -> None:
    check_path(Path("/" + "e" * 100))
    with pytest.raises(ConfigurationError, match="more than 107 bytes"):
        check_path(Path("/" + "é" * 100))


async def test_others_can_never_enter_whatever_the_umask_is(tmp_path: Path) -> None:
    tmp_path.chmod(0o777)
    before = os.umask(0)
    try:
        async with await listen(tmp_path / "s"):
            assert stat.S_IMODE(tmp_path.stat().st_mode) == 0o700
            assert stat.S_IMODE((tmp_path / "s").stat().st_mode) == 0o600
    finally:
        os.umask(before)


async def test_a_folder_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="cannot be made \\(No such file or directory\\)"):
        await listen(tmp_path / "nowhere" / "s")


def test_the_file_is_removed_also_when_somebody_else_did(tmp_path: Path) -> None:
    path = tmp_path / "s"
    path.touch()
    with removed_after(path):
        pass
    assert not path.exists()
    with removed_after(path):
        pass
