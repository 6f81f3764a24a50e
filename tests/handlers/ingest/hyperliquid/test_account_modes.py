"""Account modes: what counts as equity is asked when the request budget has time for it, and stored when it changes."""

import asyncio
from typing import Any

import pytest
from msgspec import Raw, json
from msgspec.structs import replace

from domain.events import AccountModeStated, RawReceived, Venue
from domain.influencer_account import Account, evolve
from domain.micros import micros
from gateways.hyperliquid.raw_events import MODE_CHANNEL, decode_raw
from gateways.venue_errors import WireError
from handlers.ingest.hyperliquid.account_modes import AccountModes, ModeSettings
from handlers.ingest.raw_writer import RawWriter
from streams.connection import Connection
from tests.domain.facts import seeded
from tests.gateways.test_hyperliquid_info_client import answering
from tests.handlers.ingest.test_ordered_writer import stored
from tests.streams.deadlines import settled

WHO = "0x" + "a1" * 20
OTHER = "0x" + "b2" * 20
NOW = 1_795_000_000_000_000_000
SPOT = {
    "balances": [
        {"coin": "USDC", "token": 0, "total": "400000.5", "hold": "0.0"},
        {"coin": "HYPE", "token": 150, "total": "12.0", "hold": "0.0"},
    ]
}


def raw(payload: object) -> RawReceived:
    return RawReceived(
        raw_id=f"hl:mode:{WHO}:1",
        venue=Venue.HYPERLIQUID,
        channel=MODE_CHANNEL,
        influencer_id="ann",
        address=WHO,
        payload=Raw(json.encode(payload)),
        detect_time=NOW,
    )


@pytest.mark.parametrize(
    ("answer", "equity"),
    [
        ({"mode": "default"}, "104.5"),
        ({"mode": "disabled"}, "104.5"),
        ({"mode": "dexAbstraction"}, "104.5"),
        ({"mode": "unifiedAccount", "spot": SPOT}, "400000.5"),
        ({"mode": "unifiedAccount", "spot": {"balances": []}}, "0"),
        ({"mode": "unifiedAccount"}, None),
        ({"mode": "portfolioMargin"}, None),
        ({"mode": "of another year"}, None),
    ],
    ids=str,
)
def test_the_equity_of_an_account_is_right_or_not_known(answer: dict[str, Any], equity: str | None) -> None:
    """A report states 104.50 dollars, what is posted; a unified account has 400,000 in its spot state."""
    account = Account()
    evolve(account, replace(seeded(("BTC", "1")), equity_micros=micros("104.5")))
    event = decode_raw(raw(answer))
    assert isinstance(event, AccountModeStated)
    evolve(account, event)
    assert account.equity_micros == (None if equity is None else micros(equity))


@pytest.mark.parametrize("answer", [{}, {"mode": 5}, {"mode": "unifiedAccount", "spot": {"balances": [{"coin": 1}]}}])
def test_an_answer_that_does_not_fit_is_refused(answer: object) -> None:
    with pytest.raises(WireError):
        decode_raw(raw(answer))


async def test_only_what_changes_the_equity_is_stored(log: Connection) -> None:
    modes = {WHO: "default", OTHER: "default"}

    def answer(body: dict[str, Any]) -> object:
        return modes[body["user"]] if body["type"] == "userAbstraction" else SPOT

    writer = RawWriter(log, lambda: NOW)
    settings = ModeSettings(every=0.05, unified_every=0.05, pause=0.02)
    async with answering(answer) as (info, _, asked):
        asking = AccountModes(info, writer, lambda: NOW, settings)
        asking.follow({WHO: "ann", OTHER: "bob"})
        tasks = [asyncio.create_task(each) for each in (writer.run(), asking.run())]
        try:
            async with asyncio.timeout(5):
                while len(asked) < 6:
                    await asyncio.sleep(0.02)
            assert await stored(log) == [], "the reports count already"
            modes[WHO] = "unifiedAccount"
            (found,) = await settled(lambda: stored(log), bool, 5)
            assert (found.address, found.influencer_id) == (WHO, "ann")
            assert json.decode(bytes(found.payload)) == {"mode": "unifiedAccount", "spot": SPOT}
            before = len(asked)
            async with asyncio.timeout(5):
                while len(asked) < before + 6:
                    await asyncio.sleep(0.02)
            assert len(await stored(log)) == 1, "equal answers are stored once"
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
