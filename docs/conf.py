"""Configuration of the documentation site: Sphinx, MyST, furo. Build it with ``make docs``.

The reference pages of the kernel's packages are written before each build, one page per
package, so that a module that is added or renamed needs no edit here.
"""

from __future__ import annotations

import sys
from importlib import import_module
from pathlib import Path
from pkgutil import iter_modules
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from docutils.nodes import Element
    from sphinx.addnodes import pending_xref
    from sphinx.application import Sphinx
    from sphinx.environment import BuildEnvironment

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent))

project = "rtos"
author = "The rtos developers"
release = version = import_module("rtos").__version__

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
exclude_patterns = ["README.md"]
myst_enable_extensions = ["colon_fence", "deflist"]
myst_heading_anchors = 3

autodoc_member_order = "bysource"
autodoc_typehints_format = "short"
autodoc_default_options = {"members": True}
napoleon_google_docstring = True
napoleon_numpy_docstring = False
# An attribute stands once, in the docstring of its class.
napoleon_use_ivar = True
python_use_unqualified_type_names = True
python_maximum_signature_line_length = 88
add_module_names = False
# A link that is written by hand must lead somewhere; an annotation may name a type of Trio.
nitpicky = True
nitpick_ignore_regex = [("py:class", ".*"), ("py:exc", r"trio\..*")]
# A bare name in an annotation may be that of two classes, one of them a record of the trace.
suppress_warnings = ["ref.python"]

html_theme = "furo"
html_title = f"rtos {version}"
html_static_path: list[str] = []
html_copy_source = False
html_show_sphinx = False

PACKAGES = ("scheduler", "bus", "host", "testing")


def setup(app: Sphinx) -> None:
    """Write the reference pages before the sources are read, and link the names of errors."""
    app.connect("builder-inited", lambda _: write_reference(HERE / "reference" / "modules"))
    app.connect("missing-reference", link_error)


def link_error(app: Sphinx, env: BuildEnvironment, node: pending_xref, text: Element) -> Element | None:
    """Find the error that a ``Raises:`` section names: docstrings leave out ``rtos.errors``."""
    if node.get("reftype") != "exc":
        return None
    name = f"rtos.errors.{node['reftarget']}"
    return env.domains["py"].resolve_xref(env, node["refdoc"], app.builder, "exc", name, node, text)


def write_reference(folder: Path) -> None:
    """Write one page per package with the docstrings of its modules."""
    folder.mkdir(exist_ok=True)
    wanted = {}
    for name in PACKAGES:
        root = import_module(f"rtos.{name}")
        wanted[f"{root.__name__}.md"] = _page(root.__name__, with_packages=False)
        for module in iter_modules(root.__path__, f"{root.__name__}."):
            if module.ispkg:
                wanted[f"{module.name}.md"] = _page(module.name, with_packages=True)
    for path in folder.glob("*.md"):
        if path.name not in wanted:
            path.unlink()
    for file, text in wanted.items():
        path = folder / file
        # An unchanged page keeps its time stamp, and is not built again.
        if not path.exists() or path.read_text() != text:
            path.write_text(text)


def _page(package: str, *, with_packages: bool) -> str:
    found = iter_modules(import_module(package).__path__, f"{package}.")
    modules = [module.name for module in found if with_packages or not module.ispkg]
    parts = [f"# {package}"]
    if package != "rtos.scheduler":
        # That one stands on the page of the public names.
        parts.append(_automodule(package, members=False))
    parts += [f"## {module.rpartition('.')[2]}\n\n{_automodule(module)}" for module in modules]
    return "\n\n".join(parts) + "\n"


def _automodule(name: str, *, members: bool = True) -> str:
    lines = [f".. automodule:: {name}", *([] if members else ["   :no-members:"])]
    # The names of the public API stand on a page of their own.
    public = import_module("rtos.scheduler")
    hidden = [
        each
        for each in public.__all__
        if getattr(public, each) is vars(import_module(name)).get(each, public)
    ]
    if members and hidden:
        lines.append(f"   :exclude-members: {', '.join(hidden)}")
    return "```{eval-rst}\n" + "\n".join(lines) + "\n```"
