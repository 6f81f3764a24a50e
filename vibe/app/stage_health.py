"""What the instances of the stages report that keeps them from their work, read from the lease tables."""

import asyncio
import time
from collections.abc import Iterable

from streams.connection import Connection
from streams.processing.lane_leases import stage_problems
from vibe.app.wiring import FOLDS


async def reported_problems(connection: Connection, stages: Iterable[str] = FOLDS) -> list[str]:
    """One text for each problem, in the order of the stages; none of a stage that was stopped or never started.

    Raises LogError.
    """
    now = time.time()
    found = await asyncio.gather(*(stage_problems(connection, stage, now) for stage in stages))
    return [problem for problems in found for problem in problems]
