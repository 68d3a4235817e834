"""Configuration of the documentation site: Sphinx, MyST, furo. Build it with ``make docs``.

Before each build the diagrams and the reference pages are written from the code, so that they
are never out of date.
"""

from __future__ import annotations

import re
import sys
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from docutils.nodes import Element
    from sphinx.addnodes import pending_xref
    from sphinx.application import Sphinx
    from sphinx.environment import BuildEnvironment

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE.parent)]

project = "rtos"
release = version = import_module("rtos").__version__

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
exclude_patterns = ["how-to/system-fields.md"]  # included in how-to/check.md
myst_enable_extensions = ["colon_fence", "deflist"]
myst_heading_anchors = 3

autodoc_member_order = "bysource"
autodoc_typehints_format = "short"
autodoc_default_options = {"members": True}
napoleon_google_docstring = True
napoleon_numpy_docstring = False
# An attribute is documented once, in the docstring of its class.
napoleon_use_ivar = True
python_use_unqualified_type_names = True
python_maximum_signature_line_length = 88
add_module_names = False
# A link that is written by hand must lead somewhere; an annotation may name a type of Trio.
nitpicky = True
nitpick_ignore_regex = [("py:class", ".*"), ("py:exc", r"trio\..*")]
# A bare name in an annotation may be that of two classes, one of them a record of the trace.
suppress_warnings = ["ref.python"]

MODULE = re.compile(r"``\w+``(, ``\w+``|,? and ``\w+``)*: ")

# Dashes only: quotes in the text of a program or a file must stay as they are.
smartquotes_action = "D"

html_theme = "furo"
html_title = f"rtos {version}"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_copy_source = False
html_show_sphinx = False
html_show_copyright = False


def setup(app: Sphinx) -> None:
    """Write what comes from the code before the sources are read."""
    from sphinx.domains.python import PyObject

    # Napoleon writes ``Attributes:`` sections as fields that Sphinx calls variables.
    (field,) = [field for field in PyObject.doc_field_types if field.name == "variable"]
    field.label = "Attributes"
    app.connect("builder-inited", lambda _: write_pages())
    app.connect("autodoc-process-docstring", list_modules)
    app.connect("autodoc-process-docstring", join_names)
    app.connect("missing-reference", link_error)


def write_pages() -> None:
    """Write the diagrams and the reference pages."""
    import diagrams
    import generated

    generated.write(HERE, {**diagrams.diagrams(), **generated.pages(), **generated.system_fields()})


def list_modules(
    _app: Sphinx, what: str, _name: str, _object: object, _options: object, lines: list[str]
) -> None:
    """Show the modules that the docstring of a package lists, one a line, as a list."""
    if what != "module":
        return
    shown: list[str] = []
    in_list = False
    for line in lines:
        if MODULE.match(line):
            shown += [f"* {line}"] if in_list else ["", f"* {line}"]
            in_list = True
        elif in_list and line:
            shown.append(f"  {line}")
        else:
            shown.append(line)
            in_list = False
    lines[:] = shown


def join_names(
    _app: Sphinx, _what: str, _name: str, _object: object, _options: object, lines: list[str]
) -> None:
    """Keep attributes that share a description together: Sphinx takes ``a, b`` for a type and a name."""
    for number, line in enumerate(lines):
        if line.startswith(":ivar "):
            names, _, text = line.removeprefix(":ivar ").partition(": ")
            lines[number] = f":ivar {names.replace(', ', ',')}: {text}"


def link_error(app: Sphinx, env: BuildEnvironment, node: pending_xref, text: Element) -> Element | None:
    """Find the error that a ``Raises:`` section names: docstrings leave out ``rtos.errors``."""
    if node.get("reftype") != "exc":
        return None
    name = f"rtos.errors.{node['reftarget']}"
    return env.domains["py"].resolve_xref(env, node["refdoc"], app.builder, "exc", name, node, text)
