"""`vibe demo --live`: signed orders of a subscriber on the sandbox, from the trade that is copied to the ledger."""

import json
from pathlib import Path

import pytest

from gateways.sandbox.hyperliquid import INFLUENCERS
from tests.system.command import ends, vibe
from vibe.app import demo, demo_live
from vibe.app.settings import Settings


def test_the_live_subscriber_copies_every_influencer_of_the_venue_with_a_key_of_its_own() -> None:
    lines = [json.loads(line) for line in demo_live.configuration()]
    assert {line["influencer_id"] for line in lines if line["kind"] == "subscription"} == {
        one.id for one in INFLUENCERS
    }
    (account,) = (line for line in lines if line["kind"] == "account")
    one, other = demo_live.LiveDemo(), demo_live.LiveDemo()
    assert account["address"] in one.arguments
    assert one.environment != other.environment
    assert one.environment["VIBE_AGENT_KEY_FRIDA"] not in one.arguments


@pytest.mark.parametrize(("before", "now"), [(True, True), (True, False), (False, True)])
def test_a_demo_with_a_live_account_is_never_continued(tmp_path: Path, before: bool, now: bool) -> None:
    settings = Settings(data_dir=tmp_path)
    interrupted = demo.scenario(settings, 7, live=before)
    interrupted.reached_ns, interrupted.offset_ns = demo.EPOCH_NS + 1, 0
    demo.save(tmp_path, interrupted)
    again = demo.scenario(settings, 7, live=now)
    assert (again.reached_ns, again.live) == (None, now)


async def test_a_live_subscriber_trades_in_the_demo(tmp_path: Path) -> None:
    run = await vibe(tmp_path, "demo", "--live", "--seconds", "6", "--json")
    assert run.code == 0, run.err
    assert (run.json["dead_letters"], run.json["lag"]) == (0, 0)
    assert run.json["exits"]["owed"] == run.json["exits"]["open_copies_of_flat"] == 0
    async with ends(tmp_path) as at:
        events = await at.events()
    booked = {
        event.data.order_id for event in events["order.filled"] if event.data.subscriber_id == demo_live.SUBSCRIBER
    }
    assert booked
    confirmed = [event.data for event in events["order.confirmed"]]
    # The venue's fills of the last orders may come after the demo is over.
    assert booked & {one.order.order_id for one in confirmed}
    trades = [fill.trade_id for one in confirmed for fill in one.fills]
    assert len(trades) == len(set(trades))
