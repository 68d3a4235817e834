"""The public names of ``rtos.scheduler``: lazy, listed for completion, and visible to type checkers."""

import ast
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

import rtos.scheduler


def test_every_public_name_is_the_object_of_its_module():
    for name in rtos.scheduler.__all__:
        value = getattr(import_module(f"rtos.scheduler.{rtos.scheduler._MODULES[name]}"), name)
        assert getattr(rtos.scheduler, name) is value


def test_dir_lists_public_names_that_are_not_loaded_yet():
    code = (
        "import sys, rtos.scheduler; names = dir(rtos.scheduler);"
        "assert set(rtos.scheduler.__all__) <= set(names), names;"
        "assert 'rtos.scheduler.scheduler' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_type_checkers_see_the_same_names_from_the_same_modules():
    source = ast.parse(Path(rtos.scheduler.__file__).read_text(encoding="utf-8"))
    (guarded,) = [node for node in source.body if isinstance(node, ast.If)]
    seen = {
        alias.name: node.module.removeprefix("rtos.scheduler.")
        for node in guarded.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    assert seen == rtos.scheduler._MODULES
    assert sorted(seen) == sorted(rtos.scheduler.__all__)


def test_unknown_name_raises_attribute_error():
    with pytest.raises(AttributeError, match=r"module 'rtos\.scheduler' has no attribute 'open_schedule'"):
        rtos.scheduler.open_schedule  # noqa: B018 - reading it is the test
