"""The rules have a version: a change of what is decided raises it, so that verification compares like with like."""

import itertools
import json
from collections.abc import Iterator
from hashlib import blake2b
from pathlib import Path

import msgspec
from msgspec.structs import replace

from domain.decision import RULES, decide
from domain.events import CopyDecided, ExecutionRequested, Mode, PortfolioScope, Sizing
from domain.guardrails import Policy
from domain.micros import micros
from domain.portfolio import Portfolio
from tests.domain.exit_specs import AWAY, Copy, again
from tests.domain.facts import at, bought, completed, decided, deposited, executed, inputs, on_polymarket, requested
from tests.domain.portfolio_specs import after as portfolio_after

FROZEN = Path(__file__).with_name("rules.json")
WHAT_TO_DO = """
The same cases are decided otherwise than by version {rules} of the rules. If that is meant, raise RULES in
domain/decision.py and run: python -m tests.domain.test_rules"""

SIZINGS = (
    Sizing("copy_percent", percent_micros=micros("10")),
    Sizing("fixed_notional", notional_micros=micros("60")),
    Sizing("percent_of_equity", percent_micros=micros("0.5")),
    Sizing("proportional", percent_micros=micros("100")),
)
WAYS = (("0", "1"), ("1", "1.01"), ("2", "1"), ("1", "0"), ("1", "-1"), ("0", "-1"))
POLICIES = (
    Policy(),
    Policy(min_notional_micros=micros("50"), max_notional_micros=micros("70"), market_exposure_micros=1_000),
    Policy(accumulate=0, spread_bps=0, max_loss_micros=micros("3"), notional_cap_micros=micros("80")),
)


def portfolios_of_the_cases() -> Iterator[Portfolio]:
    yield portfolio_after(deposited("10000"))
    held = (deposited("10000"), decided("0.4"), bought("BTC", "0.4", "100", attempt="att-1"), completed("att-1"))
    yield portfolio_after(*held)
    copy = Copy(*held[1:])
    copy.decides(AWAY)
    yield copy.portfolio


def requests() -> Iterator[ExecutionRequested]:
    for sizing, (before, after) in itertools.product(SIZINGS, WAYS):
        yield requested(before=before, after=after, sizing=sizing, influencer_equity_micros=micros("5000"))
        if "-" not in before + after:
            # A thousand outcome tokens are worth as much as some coins.
            yield on_polymarket(before=f"{before}000", after=f"{after}000".replace("1.01000", "1010"), sizing=sizing)
    yield requested(quote=None)
    yield requested(mode=Mode.RECORD_ONLY)
    yield requested(scope=PortfolioScope.EXEC_GLOBAL)
    copy = Copy(*executed(bought("BTC", "0.4", "100")))
    copy.decides(AWAY)
    yield again(copy.owed)
    yield again(copy.owed, bids=((98_500_000, 50_000_000),))


def decisions() -> Iterator[CopyDecided]:
    for portfolio, policy, request in itertools.product(portfolios_of_the_cases(), POLICIES, requests()):
        yield replace(decide(portfolio, request, policy, inputs(), now=at(1000)), attempt_id="", rules=0)


def digest() -> str:
    return blake2b(b"\n".join(map(msgspec.json.encode, decisions())), digest_size=16).hexdigest()


def test_the_same_rules_decide_the_same() -> None:
    frozen = json.loads(FROZEN.read_text())
    assert frozen.get(str(RULES)) == digest(), WHAT_TO_DO.format(rules=RULES)


def test_the_cases_distinguish_rules() -> None:
    found = list(decisions())
    assert len({decision.reasons for decision in found}) > 8
    assert len({decision.share_micros for decision in found}) > 10


if __name__ == "__main__":
    known = json.loads(FROZEN.read_text()) if FROZEN.exists() else {}
    assert known.get(str(RULES), digest()) == digest(), "raise RULES first: decisions of this version are in logs"
    FROZEN.write_text(json.dumps(known | {str(RULES): digest()}, indent=1) + "\n")
