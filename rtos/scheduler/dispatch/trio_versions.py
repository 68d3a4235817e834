"""The tested releases of Trio, and the error for a Trio that the run queue cannot use.

The run queue does some of the work of Trio's loop itself: it runs steps as
``unrolled_run`` does, and checks for cancellation as ``checkpoint_if_cancelled`` does.
``SOURCES`` has a digest of the source of each such function in each tested release. With
a Trio in which one of them has changed, the loop runs every step itself, one per pass,
as in strict mode: correct, and slower.

To add a release:

1. Install it. ``python -m rtos.scheduler.dispatch.trio_compat`` prints the functions that
   have changed, with their digests.
2. Read what has changed in them. Change ``run_step``, ``act_upon`` and ``StepDonation``
   to do the same.
3. Add the digests to ``SOURCES``, and move the newer end of ``TESTED``.
4. Run the tests, and Trio's own tests under the run queue: ``make trio-suite``.
"""

from __future__ import annotations

from typing import Final

import trio

from rtos.errors import UnsupportedTrio

TESTED: Final = ("0.30.0", "0.35.0")
"""The oldest and the newest Trio release that the tests have been run with."""

SOURCES: Final = {
    "unrolled_run": ("dc68806c2eb028f6", "76e2761d1b084bb2"),
    "Runner.reschedule": ("bcd82c7511cf95c0", "4295169702e39615"),
    "Runner.task_exited": ("6cd2efaca0068c7d", "2876cde4c4a1aea1"),
    "Task._attempt_abort": ("2f39932a2573abb7",),
    "Task._attempt_delivery_of_any_pending_cancel": ("904a5d6fe1c16719", "b58cefc3fc6b0e20"),
    "Task._attempt_delivery_of_pending_ki": ("4389e1b35e08bcbf",),
    "Deadlines.next_deadline": ("dacdca5c5af1b43c",),
    "checkpoint_if_cancelled": ("8f88edec0641414c",),
    "cancel_shielded_checkpoint": ("95aaa6959f8ccafa",),
    "wait_task_rescheduled": ("d50a3710342a32ad",),
}
"""Digests (``trio_compat.digest_of``) of the functions that the run queue imitates, by name.

The releases from 0.30 to 0.35 have one or two forms of each.
"""


def unsupported(found: str) -> UnsupportedTrio:
    """The error for a Trio that lacks something that the run queue needs.

    Args:
      found: what is missing, or different.
    """
    return UnsupportedTrio(
        f"trio {trio.__version__} is not shaped as the run queue needs it ({found})",
        f"use a version from {TESTED[0]} to {TESTED[1]}, and say which one this is;"
        " or open_scheduler(ordered=False) (rtos boot --unordered) runs with Trio's own order,"
        " without budgets",
    )
