"""A corrected settlement is computed again from the resolutions of the log; a forged one is named."""

from typing import Any, cast

import pytest
from msgspec import structs

from domain.configuration import Configuration
from domain.events import MarketResolved, Payout, Venue
from domain.mark_prices import MarkPrices
from domain.micros import micros
from domain.paper_execution import position_corrected
from domain.portfolio import Portfolio
from domain.portfolio_maintenance import corrections
from streams import subjects
from streams.envelope import Recorded
from streams.reader import Stored
from tests.domain.facts import bought, deposited, executed
from tests.domain.portfolio_specs import PM, after
from tests.domain.strategies import settled
from tests.streams.examples import example
from vibe.verify.executions import _Verifier
from vibe.verify.findings import Findings

EARLIER = (
    deposited("1000"),
    *executed(bought("yes", "10", "0.4", venue=PM)),
    settled("yes", micros("10"), micros("1")),
)


class Remembered:
    """Marks that are all in memory."""

    def __init__(self, marks: MarkPrices) -> None:
        self._marks = marks

    async def at(self, sequence: int) -> MarkPrices:
        return self._marks


def resolved(id: str, price: str, corrects: str | None = None) -> MarketResolved:
    payouts = (Payout("yes", micros(price)),)
    return example(
        MarketResolved, resolution_id=id, venue=Venue.POLYMARKET, market="race", payouts=payouts, corrects=corrects
    )


def recorded(event: Any, id: str, index: int) -> Recorded:
    subject, cause = subjects.executions("sam"), "GROUPS:9.0"
    return Recorded("EXECUTIONS", 5, subject, b"", "", id, "", "", None, cause, event, index)


@pytest.mark.parametrize(("forged", "ok"), [(0, True), (5_000_000, False)])
async def test_a_correction_is_verified_with_the_position_after_it(forged: int, ok: bool) -> None:
    marks = MarkPrices(history=True)
    marks.evolve(resolved("res-1", "1"), 4)
    marks.evolve(resolved("res-2", "0", "res-1"), 9)
    portfolio: Portfolio = after(*EARLIER)
    (made, sequence), *_ = corrections(portfolio, "sam", marks, now=7)
    assert (sequence, made.cash_delta_micros) == (9, -micros("10"))
    changed = position_corrected(portfolio, made)
    findings = Findings()
    verifier = _Verifier(cast("Any", None), Configuration(), cast("Any", Remembered(marks)), findings)
    verifier.fold([recorded(event, "", 0) for event in EARLIER])
    correction = structs.replace(made, cash_delta_micros=made.cash_delta_micros + forged)
    commit = [recorded(correction, made.correction_id, 0), recorded(changed, f"{made.correction_id}.position", 1)]
    await verifier.commit(commit, Stored(5, subjects.executions("sam"), b""), counted=True)
    assert findings.ok is (ok), (findings.different, findings.unproducible)
