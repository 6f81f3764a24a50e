"""The whole log verified: every kind of derived event that can be computed again."""

from __future__ import annotations

from streams.connection import Connection
from vibe.verify.derived import Progress, verify_derivation
from vibe.verify.executions import verify_executions
from vibe.verify.findings import Findings
from vibe.verify.groups import signal_groups
from vibe.verify.requests import requests
from vibe.verify.signals import signals


async def verify_log(
    connection: Connection, *, since: int | None = None, progress: Progress = lambda done, of: None
) -> Findings:
    """Compute again what was recorded at `since` (ns; None = all) or later, one stream after the other; nothing is
    written. `progress` begins anew with each stream."""
    findings = Findings()
    for derivation in (signals(connection), signal_groups(), requests(connection)):
        await verify_derivation(connection, derivation, findings, since=since, progress=progress)
    await verify_executions(connection, findings, since=since, progress=progress)
    return findings
