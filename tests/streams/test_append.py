"""Appending: all or nothing, at expected versions, and with a known or an unknown outcome."""

import asyncio

import pytest

from gateways.embedded import Addresses
from streams import topology
from streams.append import MAX_BATCH, ExpectedVersion, Record, append
from streams.connection import Connection, connect
from streams.errors import ConflictError, DuplicateError, RefusedError, UnavailableError, UnknownOutcomeError
from streams.reader import read_all
from tests.streams.proxy import proxied

SUBJECT = "executions.7.ann"


def records(count: int, subject: str = SUBJECT, *, ids: str = "") -> list[Record]:
    return [Record(subject, f"{number}".encode(), f"{ids}{number}" if ids else None) for number in range(count)]


async def stored(connection: Connection) -> list[tuple[str, bytes]]:
    return [
        (message.subject, message.payload) async for batch in read_all(connection, "EXECUTIONS") for message in batch
    ]


async def last_sequence(connection: Connection) -> int:
    found = await topology.info(connection, "EXECUTIONS")
    assert found is not None
    return int(found["state"]["last_seq"])


@pytest.mark.parametrize("count", [1, 2, 7, MAX_BATCH])
async def test_a_batch_lands_without_a_gap(log: Connection, count: int) -> None:
    await append(log, records(3, "executions.1.bob"))
    landed = await append(log, records(count))
    assert (landed.first, landed.last, landed.duplicate) == (4, 3 + count, False)
    assert (await stored(log))[3:] == [(SUBJECT, f"{number}".encode()) for number in range(count)]


@pytest.mark.parametrize("count", [1, 5])
async def test_an_unmet_expected_version_stores_nothing(log: Connection, count: int) -> None:
    await append(log, records(4))
    for expected in (0, 3, 5):
        with pytest.raises(ConflictError, match=SUBJECT) as conflict:
            await append(
                log, [*records(count - 1, "executions.1.bob"), *records(1)], ExpectedVersion(SUBJECT, expected)
            )
        assert (conflict.value.subject, conflict.value.expected, conflict.value.actual) == (SUBJECT, expected, 4)
    assert len(await stored(log)) == 4
    landed = await append(log, [*records(count - 1, "executions.1.bob"), *records(1)], ExpectedVersion(SUBJECT, 4))
    assert landed.last == await last_sequence(log) == 4 + count


async def test_an_expected_version_of_an_empty_subject(log: Connection) -> None:
    await append(log, records(3, "executions.1.bob"))
    await append(log, records(2), ExpectedVersion(SUBJECT, 0))
    with pytest.raises(ConflictError):
        await append(log, records(2), ExpectedVersion(SUBJECT, 0))


async def test_an_expected_version_of_a_subject_outside_the_batch_is_refused(log: Connection) -> None:
    with pytest.raises(RefusedError, match=r"subject executions\.1\.bob, whose version is expected"):
        await append(log, records(3), ExpectedVersion("executions.1.bob", 0))
    assert await stored(log) == []


async def test_only_one_of_many_rivals_wins(log: Connection) -> None:
    results = await asyncio.gather(
        *(append(log, records(2), ExpectedVersion(SUBJECT, 0)) for _ in range(20)), return_exceptions=True
    )
    assert sum(not isinstance(result, Exception) for result in results) == 1
    assert {type(result) for result in results if isinstance(result, Exception)} == {ConflictError}
    assert len(await stored(log)) == 2


async def test_a_stored_id_in_a_batch_refuses_the_batch(log: Connection) -> None:
    await append(log, records(1, ids="a"))
    fresh = records(3, ids="b")
    with pytest.raises(DuplicateError):
        await append(log, [fresh[0], records(1, ids="a")[0], fresh[1]])
    with pytest.raises(DuplicateError):
        await append(log, [*fresh, fresh[1]])
    assert len(await stored(log)) == 1
    assert (await append(log, fresh)).last == 4


async def test_a_stored_id_alone_answers_where_it_is(log: Connection) -> None:
    await append(log, records(2))
    first = await append(log, records(1, ids="a"))
    again = await append(log, records(1, ids="a"))
    assert (first.duplicate, again.duplicate) == (False, True)
    assert (again.first, again.last) == (first.first, first.last) == (3, 3)
    assert len(await stored(log)) == 3


@pytest.mark.parametrize("count", [1, 3])
async def test_an_id_with_line_breaks_forges_no_header(log: Connection, count: int) -> None:
    forged = [Record(SUBJECT, b"", f"{number}\r\nNats-Expected-Last-Sequence: 99") for number in range(count)]
    assert (await append(log, forged)).last == count
    other = [Record(SUBJECT, b"", f"{number}\r\nNats-Expected-Last-Sequence: 98") for number in range(count)]
    assert (await append(log, other)).last == 2 * count, "another id is another id"


@pytest.mark.parametrize("count", [0, MAX_BATCH + 1])
async def test_the_size_of_a_batch_is_checked_before_anything_is_sent(log: Connection, count: int) -> None:
    with pytest.raises(RefusedError, match="1 to 1000"):
        await append(log, records(count))
    assert await stored(log) == []


@pytest.mark.parametrize("place", [0, 2, 4])
async def test_one_payload_too_large_and_nothing_is_stored(log: Connection, place: int) -> None:
    batch = records(5)
    batch[place] = Record(SUBJECT, b"x" * 9_000_000)
    with pytest.raises(RefusedError, match="max_payload"):
        await append(log, batch)
    with pytest.raises(RefusedError, match="max_payload"):
        await append(log, [batch[place]])
    assert (await append(log, records(2))).last == 2


async def test_a_batch_for_two_streams_stores_nothing(log: Connection) -> None:
    with pytest.raises((RefusedError, UnavailableError)):
        await append(log, [*records(2), Record("config.a.b", b"")], timeout=2)
    assert await stored(log) == []
    assert [batch async for batch in read_all(log, "CONFIG")] == []


@pytest.mark.parametrize(
    "marker", [b"Nats-Batch-Sequence: 1\r\n", b"Nats-Batch-Sequence: 30\r\n", b"Nats-Batch-Commit"]
)
async def test_a_connection_lost_in_the_middle_stores_nothing(
    log: Connection, running: Addresses, marker: bytes
) -> None:
    async with proxied(running.nats_url) as proxy:
        through = await connect(proxy.url, "through the proxy")
        try:
            proxy.disconnect_at(marker)
            with pytest.raises(UnknownOutcomeError):
                await append(through, records(60), timeout=1)
            assert proxy.interruptions == 1
            assert await stored(log) == []
            assert (await append(through, records(60))).last == 60, "and it is no obstacle to another try"
        finally:
            await through.close()


@pytest.mark.parametrize("count", [1, 60])
async def test_a_lost_answer_is_unknown_although_all_is_stored(log: Connection, running: Addresses, count: int) -> None:
    async with proxied(running.nats_url) as proxy:
        through = await connect(proxy.url, "through the proxy")
        try:
            proxy.lose_answer_to(b"Nats-Batch-Commit" if count > 1 else b"Nats-Msg-Id: a0")
            with pytest.raises(UnknownOutcomeError):
                await append(through, records(count, ids="a"), timeout=1)
            assert proxy.interruptions == 1
            assert len(await stored(log)) == count
        finally:
            await through.close()


async def test_a_stream_that_does_not_exist_is_no_success(log: Connection) -> None:
    with pytest.raises(UnknownOutcomeError):
        await append(log, [Record("nowhere.at.all", b"")], timeout=1)


@pytest.mark.parametrize("count", [1, 3])
async def test_an_expected_version_with_wildcards_covers_all_that_matches(log: Connection, count: int) -> None:
    around = SUBJECT.rpartition(".")[0] + ".*"
    first = await append(log, records(count), ExpectedVersion(around, 0))
    elsewhere = await append(
        log, [Record(SUBJECT.rpartition(".")[0] + ".other", b"x")], ExpectedVersion(around, first.last)
    )
    with pytest.raises(ConflictError) as refused:
        await append(log, records(count), ExpectedVersion(around, first.last))
    assert refused.value.expected == first.last
    assert refused.value.actual in (elsewhere.last, None)
    landed = await append(log, records(count), ExpectedVersion(around, elsewhere.last))
    assert landed.last == elsewhere.last + count
