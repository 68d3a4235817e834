"""Find import cycles in a package, type-checking imports included.

``python -m tests.support.cycles [PACKAGE]`` prints each group of modules that import each other, and exits
with 1 if there is one.
"""
# ruff: noqa: T201 - a script that prints its result

from __future__ import annotations

import sys
from collections.abc import Mapping
from collections.abc import Set as AbstractSet

import grimp


def imports_of(package: str) -> dict[str, AbstractSet[str]]:
    """What each module of ``package`` imports directly of the same package."""
    graph = grimp.build_graph(package, exclude_type_checking_imports=False, cache_dir=None)
    return {module: graph.find_modules_directly_imported_by(module) for module in graph.modules}


def find_cycles(imports: Mapping[str, AbstractSet[str]]) -> list[list[str]]:
    """The groups of modules that import each other, each in alphabetical order."""
    reached = {module: _reached_from(module, imports) for module in imports}
    groups = {
        frozenset(other for other in reached[module] if module in reached[other])
        for module in imports
        if module in reached[module]
    }
    return sorted(sorted(group) for group in groups)


def _reached_from(start: str, imports: Mapping[str, AbstractSet[str]]) -> set[str]:
    found: set[str] = set()
    pending = [start]
    while pending:
        new = imports.get(pending.pop(), set()) - found
        found |= new
        pending += new
    return found


def main(package: str = "rtos") -> int:
    imports = imports_of(package)
    cycles = find_cycles(imports)
    for group in cycles:
        print("cycle:", ", ".join(group))
    print(f"{len(cycles)} cycles among {len(imports)} modules of {package}")
    return int(bool(cycles))


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
