"""Subjects: no text can break one, and our partitions are the server's."""

import json
import random
from urllib.parse import unquote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams import subjects
from streams.connection import Connection
from streams.reader import read_all
from streams.subjects import PARTITIONS, Lane, lanes, partition, token


@pytest.mark.parametrize(
    ("text", "encoded"),
    [
        ("BTC", "BTC"),
        ("@107", "@107"),
        ("PURR/USDC", "PURR/USDC"),
        ("xyz:SP500", "xyz:SP500"),
        ("a.b", "a%2Eb"),
        ("*", "%2A"),
        (">", "%3E"),
        ("a b\tc", "a%20b%09c"),
        ("50%", "50%25"),
        ("ü", "%C3%BC"),
        ("0xAbC", "0xAbC"),
    ],
)
def test_symbols_are_encoded_and_can_be_read_back(text: str, encoded: str) -> None:
    assert token(text) == encoded
    assert unquote(encoded) == text


def test_an_empty_token_is_refused() -> None:
    with pytest.raises(ValueError, match="empty"):
        token("")


def test_a_token_too_long_for_the_server_is_refused() -> None:
    assert token("x" * 200) == "x" * 200
    with pytest.raises(ValueError, match="201 characters"):
        token("x" * 201)


@given(st.text(min_size=1, max_size=60))
def test_any_text_makes_one_token_and_comes_back(text: str) -> None:
    try:
        encoded = token(text)
    except UnicodeEncodeError:
        assert any(0xD800 <= ord(character) <= 0xDFFF for character in text), "only lone surrogates are no text"
        return
    assert not set(encoded) & set(".*>")
    assert encoded.isascii()
    assert encoded.isprintable()
    assert not any(character.isspace() for character in encoded)
    assert unquote(encoded) == text


@given(st.text(min_size=1), st.text(min_size=1))
def test_different_texts_have_different_tokens(one: str, other: str) -> None:
    if one.isprintable() and other.isprintable() and one != other:
        assert token(one) != token(other)


async def test_partitions_are_those_of_the_server(log: Connection) -> None:
    chance = random.Random(64)
    keys = ["".join(chance.choices("ABCxyz0189_-:@#/%", k=length)) for length in range(1, 31) for _ in range(10)]
    transform = {"src": "keys.*", "dest": "parted.{{partition(64,1)}}.{{wildcard(1)}}"}
    body = {"name": "PARTED", "subjects": ["keys.*"], "storage": "memory", "subject_transform": transform}
    await log.api("STREAM.CREATE.PARTED", body)
    for key in keys:
        answer = await log.request(f"keys.{key}", b"")
        assert "error" not in json.loads(answer.data)
    stored = [message.subject async for batch in read_all(log, "PARTED") for message in batch]
    assert stored == [f"parted.{partition(key)}.{key}" for key in keys]
    assert len({partition(key) for key in keys}) > 60


@pytest.mark.parametrize("count", [1, 2, 4, 8])
def test_lanes_cover_every_partition_once(count: int) -> None:
    covered = [number for lane in lanes(count) for number in range(lane.first, lane.last + 1)]
    assert covered == list(range(PARTITIONS))
    assert len({lane.name for lane in lanes(count)}) == count
    filters = [pattern for lane in lanes(count) for pattern in lane.filters("signals.{}.>", "quotes.{}.>")]
    assert sorted(filters) == sorted(f"{kind}.{n}.>" for kind in ("signals", "quotes") for n in range(PARTITIONS))


@pytest.mark.parametrize("count", [0, -1, 3, 16, 32, 64, 128])
def test_any_other_number_of_lanes_is_refused(count: int) -> None:
    with pytest.raises(ValueError, match=f"a stage has 1, 2, 4 or 8 lanes, not {count}; set VIBE_LANES"):
        lanes(count)


def test_one_subject_for_each_kind_of_aggregate() -> None:
    p = partition("whale.1")
    assert subjects.raw("whale.1", "hyperliquid", "trades", "0xab") == f"raw.{p}.hyperliquid.trades.0xab"
    assert subjects.signals("whale.1", "hyperliquid", "a.b") == f"signals.{p}.hyperliquid.whale%2E1.a%2Eb"
    assert subjects.groups("whale.1", "hyperliquid", "BTC") == f"groups.{p}.hyperliquid.whale%2E1.BTC"
    assert subjects.quotes("whale.1", "hyperliquid", "BTC") == f"quotes.{p}.hyperliquid.BTC"
    assert subjects.requests(8, "whale.1") == "requests.8.whale%2E1"
    assert subjects.class_of("whale.1") == p - p % 8
    assert subjects.executions("whale.1") == f"executions.{p}.whale%2E1"
    assert subjects.matched("whale.1") == "requests.matched.whale%2E1"
    assert subjects.config("influencer", "whale.1") == "config.influencer.whale%2E1"
    assert subjects.dead("projection.x", "RAW") == "dead.projection%2Ex.RAW"
    assert subjects.checkpoint("GROUPS", "group", Lane(0, 15)) == "groups.checkpoint.group.00-15"
