"""Run Trio's own tests with Trio's run queue and with ours: the results must be the same.

python tests/trio_suite.py [--strict] [options of pytest]

Runs them once without a scheduler and once with one; ``--strict`` adds a run with one step
per pass. Needs ``pytest``. Trio's tests use trustme, pyOpenSSL, astor, jedi and
async_generator as well: tests that cannot be imported are left out of all runs. Prints the
figures, and exits with status 1 if an outcome differs that ``EXPECTED`` does not list.
"""
# ruff: noqa: T201 - a script prints its results

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import trio

if TYPE_CHECKING:
    from collections.abc import Sequence

EXPECTED = {
    "ordered": {
        "::test_the_trio_scheduler_is_not_deterministic": "it asserts that the order is random",
    },
    "strict": {
        "::test_the_trio_scheduler_is_not_deterministic": "it asserts that the order is random",
    },
}
"""The tests whose outcome may differ from plain Trio's, by mode, with the reason."""

LIMIT = 300
"""Most seconds for one run, which takes 15."""

HERE = Path(__file__).parent
TESTS = Path(trio.__file__).parent
# They check Trio's source tree and its types, not its loop.
LEFT_OUT = ("_tests/tools", "_tests/type_tests", "_core/_tests/type_tests", "_tests/test_exports.py")


def run(mode: str, folder: Path, options: Sequence[str]) -> dict[str, Any]:
    """Run Trio's tests once, in a process of their own."""
    report = folder / f"{mode}.json"
    path = os.pathsep.join((str(HERE), str(HERE.parent), os.environ.get("PYTHONPATH", "")))
    environment = {
        **os.environ,
        "RTOS_SUITE_MODE": mode,
        "RTOS_SUITE_REPORT": str(report),
        "PYTHONPATH": path,
    }
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "--tb=short",
        "--continue-on-collection-errors",
        "-W",
        "ignore",
    ]
    command += ["-p", "trio._tests.pytest_plugin", "-p", "trio_suite_plugin", "-p", "no:cacheprovider"]
    # These plugins would run Trio's tests in their own way.
    command += ["-p", "no:trio", "-p", "no:hypothesispytest", "-c", os.devnull, "--rootdir", str(TESTS)]
    command += [f"--ignore={TESTS / name}" for name in LEFT_OUT]
    command += [str(TESTS / "_tests"), str(TESTS / "_core" / "_tests"), *options]
    log = folder / f"{mode}.log"
    with log.open("w", encoding="utf-8") as out:
        try:
            subprocess.run(
                command, env=environment, cwd=folder, stdout=out, stderr=out, check=False, timeout=LIMIT
            )
        except subprocess.TimeoutExpired:
            sys.exit(f"the {mode} run did not end within {LIMIT} s; see {log}")
    if not report.exists():
        sys.exit(f"the {mode} run ended without a report; see {log}")
    found: dict[str, Any] = json.loads(report.read_text(encoding="utf-8"))
    return found


def figures(report: dict[str, Any]) -> str:
    """The number of tests by outcome."""
    counts = Counter(report["outcomes"].values())
    return ", ".join(f"{number} {name}" for name, number in sorted(counts.items()))


def differences(mode: str, plain: dict[str, Any], ordered: dict[str, Any]) -> int:
    """Print the differences; return the number of unexpected ones."""
    wrong = 0
    before, after = plain["outcomes"], ordered["outcomes"]
    for name in sorted(before.keys() | after.keys()):
        if before.get(name) != after.get(name):
            reason = next((why for end, why in EXPECTED[mode].items() if name.endswith(end)), None)
            wrong += reason is None
            print(f"  {name}: {before.get(name)} -> {after.get(name)}; {reason or 'NOT EXPECTED'}")
    if ordered["changed"]:
        print(f"  untested release, so only its fallback has run; changed: {ordered['changed']}")
        wrong += 1
    if ordered["counts"]["ordered"] < len(after) / 2:
        print(f"  a scheduler in only {ordered['counts']['ordered']} runs: NOT EXPECTED")
        wrong += 1
    return wrong


def main() -> int:
    """Run the tests in all modes, compare, and print the results."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--strict", action="store_true", help="add the run of one step per pass")
    asked, options = parser.parse_known_args()
    folder = Path(tempfile.mkdtemp(prefix="trio-suite-"))
    plain = run("plain", folder, options)
    print(f"Trio {plain['trio']}, Python {sys.version.split()[0]}; logs in {folder}")
    print(f"plain: {figures(plain)}")
    wrong = 0
    for mode in ("ordered", "strict") if asked.strict else ("ordered",):
        found = run(mode, folder, options)
        print(f"{mode}: {figures(found)}; a scheduler in {found['counts']['ordered']} runs")
        wrong += differences(mode, plain, found)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
