"""Writes what the site takes from the code: reference pages and fields of ``system.toml``.

Called before each build. The files are not committed: they follow the code without an edit here.
"""

from __future__ import annotations

from importlib import import_module
from itertools import groupby
from pkgutil import iter_modules
from typing import TYPE_CHECKING

from rtos.scheduler.analysis.system_file import fields

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

PACKAGES = ("scheduler", "bus", "host", "testing")


def write(folder: Path, files: Mapping[str, str]) -> None:
    """Write the files into ``folder``, and remove reference pages of modules that are gone."""
    for path in folder.glob("reference/modules/*.md"):
        if str(path.relative_to(folder)) not in files:
            path.unlink()
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(exist_ok=True)
        # An unchanged page keeps its time stamp, and is not built again.
        if not path.exists() or path.read_text() != text:
            path.write_text(text)


def pages() -> dict[str, str]:
    """One reference page per package, with the docstrings of its modules."""
    found = {}
    for name in PACKAGES:
        root = import_module(f"rtos.{name}")
        found[root.__name__] = _page(root.__name__, with_packages=False)
        for module in iter_modules(root.__path__, f"{root.__name__}."):
            if module.ispkg:
                found[module.name] = _page(module.name, with_packages=True)
    return {f"reference/modules/{name}.md": text for name, text in found.items()}


def system_fields() -> dict[str, str]:
    """The reference of every field of ``system.toml``, table by table."""
    lines = []
    for table, rows in groupby(fields(), key=lambda field: field.table):
        lines += [f"### `{table}`" if table else "### At the top", ""]
        lines += ["| Field | Type | Value | Default | Meaning |", "|---|---|---|---|---|"]
        for field in rows:
            kind = f"{field.type}: {field.unit}" if field.unit else field.type
            value = f"{field.allowed}. Example: `{field.example}`"
            default = "required" if field.default is None else field.default
            lines.append(f"| `{field.name}` | {kind} | {value} | {default} | {field.meaning} |")
        lines.append("")
    return {"how-to/system-fields.md": "\n".join(lines)}


def _page(package: str, *, with_packages: bool) -> str:
    found = iter_modules(import_module(package).__path__, f"{package}.")
    modules = [module.name for module in found if with_packages or not module.ispkg]
    parts = [f"# {package}"]
    if package != "rtos.scheduler":
        # Its docstring is on the page of the public API.
        parts.append(_automodule(package, members=False))
    parts += [f"## {module.rpartition('.')[2]}\n\n{_automodule(module)}" for module in modules]
    return "\n\n".join(parts) + "\n"


def _automodule(name: str, *, members: bool = True) -> str:
    lines = [f".. automodule:: {name}", *([] if members else ["   :no-members:"])]
    # The public API has a page of its own.
    public = import_module("rtos.scheduler")
    hidden = [
        each
        for each in public.__all__
        if getattr(public, each) is vars(import_module(name)).get(each, public)
    ]
    if members and hidden:
        lines.append(f"   :exclude-members: {', '.join(hidden)}")
    return "```{eval-rst}\n" + "\n".join(lines) + "\n```"
