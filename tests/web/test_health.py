"""GET /api/v1/health: red with what the instances of the stages report, and green again when they report nothing."""

import aiohttp
import msgspec

from streams.append import Record, append
from streams.connection import Connection
from streams.processing.lane_leases import LeaseTable, Member
from tests.web.conftest import Server


async def report(connection: Connection, *problems: str) -> None:
    """The lease table of a stage with one instance, which reports these problems."""
    table = LeaseTable({"one": Member(1, "host", 7, "99", 4, problems)}, {}, 4)
    await append(connection, [Record("leases.plan", msgspec.json.encode(table))])


async def test_what_a_stage_reports_is_in_the_health_until_it_reports_it_no_more(server: Server) -> None:
    connection, address = server.site.connection, server.address
    async with aiohttp.ClientSession() as http:

        async def health() -> tuple[int, str]:
            async with http.get(f"{address}/api/v1/health") as answered:
                return answered.status, (await answered.json())["stages"]

        assert await health() == (200, "ok"), "no stage was started"
        await report(connection, "plan 00-15: the log refuses it: stream is full")
        assert await health() == (503, "plan 00-15: the log refuses it: stream is full")
        await report(connection)
        assert await health() == (200, "ok")
