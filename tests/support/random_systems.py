"""Random sets of jobs: utilisations and periods drawn without bias.

Sources: Bini & Buttazzo 2005 (UUniFast: utilisations drawn evenly from all that
have one sum); Emberson, Stafford, Davis 2010 (periods drawn evenly by magnitude).
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from rtos.scheduler.analysis.model import Job

if TYPE_CHECKING:
    import random


def uunifast(chance: random.Random, number: int, total: float) -> list[float]:
    """``number`` utilisations with the sum ``total``."""
    found = []
    for left in range(number - 1, 0, -1):
        rest = total * chance.random() ** (1 / left)
        found.append(total - rest)
        total = rest
    return [*found, total]


def random_set(
    chance: random.Random,
    *,
    number: int,
    total: float,
    levels: int,
    shortest: int,
    longest: int,
    jitter: float = 0.0,
) -> list[Job]:
    """A set of jobs.

    Args:
      chance: draws.
      number: of jobs.
      total: utilisation, roughly, since costs are whole numbers.
      levels: jobs are spread over so many; as many as jobs gives one each.
      shortest: period.
      longest: period.
      jitter: the most, as a share of the period.
    """
    jobs = []
    for index, share in enumerate(uunifast(chance, number, total)):
        period = round(math.exp(chance.uniform(math.log(shortest), math.log(longest))))
        cost = max(1, round(share * period))
        longest_step = chance.randint(max(1, -(-cost // 3)), cost)
        jobs.append(
            Job(
                name=f"job {index}",
                level=index * levels // number,
                cost=cost,
                period=period,
                deadline=chance.randint(max(cost, period // 2), 2 * period),
                jitter=int(chance.random() * jitter * period),
                longest_step=longest_step,
                last_step=cost - (cost - 1) // longest_step * longest_step,
            )
        )
    return jobs
