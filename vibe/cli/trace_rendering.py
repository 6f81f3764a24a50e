"""How a trace is shown: as JSON, or as text."""

import os
from collections.abc import Mapping
from datetime import datetime
from typing import Any

import msgspec
from rich.console import Console
from rich.text import Text

from domain.events import (
    BreakerTripped,
    CopyDecided,
    CopyRequested,
    Decision,
    ExecutionCompleted,
    ExitDue,
    ExitEnded,
    ExitOwed,
    ExitScheduled,
    FillCorrected,
    FillObserved,
    GapDetected,
    GroupClosed,
    GroupMatched,
    MarketResolved,
    OrderConfirmed,
    OrderFilled,
    OrderResulted,
    OrderSent,
    OrderSigned,
    OrderSubmitted,
    PositionChanged,
    PositionSettled,
    QuoteCaptured,
    QuoteFailed,
    QuoteWanted,
    RawReceived,
    SettlementCorrected,
    SignalRecorded,
)
from domain.micros import decimal_text
from handlers.services.trace import Attempt, Trace, first_time, time_of
from handlers.services.trace_verification import Verified
from streams.dead_letters import DeadLettered
from streams.envelope import Recorded, rfc3339
from streams.topology import EXECUTIONS
from vibe.verify.findings import Findings

_BELOW = 6
"""How far the facts of a line are indented that are below it."""


def _indent(console: Console) -> str:
    """What the checks of a decision begin with."""
    return " " * (25 if console.width >= 100 else 2)


def as_json(wanted: str, trace: Trace, verdicts: Mapping[str, Verified], findings: Findings | None = None) -> bytes:
    """One JSON object: every hop with stream, sequence, time, latency since the first, id and the event's facts."""
    start = first_time(trace)
    return msgspec.json.encode(
        {
            "id": wanted,
            "found_as": trace.found_as,
            "hops": [_hop(hop, start) for hop in trace.shared],
            "attempts": [_attempt(attempt, start, verdicts.get(attempt.attempt_id)) for attempt in trace.attempts],
            "dead_letters": [_hop(hop, start) for hop in trace.dead],
            **({"verified": _findings(findings)} if findings is not None else {}),
        }
    )


def _findings(findings: Findings) -> dict[str, Any]:
    return {
        "equal": findings.ok,
        "events": findings.events,
        "different": [one._asdict() for one in findings.different],
        "unproducible": [one._asdict() for one in findings.unproducible],
    }


def show_findings(console: Console, findings: Findings) -> None:
    """The verdict on a deposit, a settlement or its correction, with what follows from it in its commit."""
    lines = [f"{one.type} ({one.at}): {one.why}" for one in findings.unproducible]
    lines += [
        f"{one.type} ({one.at}): {one.field} differs, stored {one.stored}, again {one.recomputed}"
        for one in findings.different
    ]
    if findings.ok:
        lines = [
            f"computed again from the log alone: {findings.verified} of {findings.events} events equal in every field"
        ]
    for line in lines:
        _print(console, Text(_indent(console)), Text(line, style="green" if findings.ok else "red"))


def _attempt(attempt: Attempt, start: int, verdict: Verified | None) -> dict[str, Any]:
    decided = next((hop.data for hop in attempt.hops if isinstance(hop.data, CopyDecided)), None)
    return {
        "attempt_id": attempt.attempt_id,
        "decision": decided.decision if decided else None,
        "reasons": {reason: reason.text for reason in decided.reasons} if decided else {},
        **({"verified": verdict.facts()} if verdict is not None else {}),
        "hops": [_hop(hop, start) for hop in attempt.hops],
        "ledger": [
            {
                "stream": EXECUTIONS.name,
                "time": f"{entry['booked_at']:%Y-%m-%dT%H:%M:%S.%fZ}",
                "since_first_ms": round(_since(entry, start), 3),
                **entry,
            }
            for entry in attempt.ledger
        ],
    }


def _hop(hop: Recorded, start: int) -> dict[str, Any]:
    at = time_of(hop)
    return {
        "type": hop.type,
        "id": hop.id,
        "stream": hop.stream,
        "sequence": hop.sequence,
        "time": rfc3339(at),
        "since_first_ms": round((at - start) / 1e6, 3),
        "recorded": hop.time,
        "correlation": hop.correlation,
        "causation": hop.causation,
        "data": hop.data,
    }


def show_trace(console: Console, wanted: str, trace: Trace, limit: int, verdicts: Mapping[str, Verified]) -> None:
    """Print a trace; at most `limit` attempts in full."""
    start = first_time(trace)
    console.print(Text.assemble(("trace ", "dim"), (wanted, "bold"), (f"  found as {trace.found_as}", "dim")))
    for hop in trace.shared:
        _line(console, hop, start)
    for attempt in trace.attempts[:limit]:
        console.print()
        for hop in attempt.hops:
            _line(console, hop, start)
            if isinstance(hop.data, CopyDecided):
                _checks(console, hop.data)
        for entry in attempt.ledger:
            _print(console, *_ledger(entry, start))
        if (verdict := verdicts.get(attempt.attempt_id)) is not None:
            style = "red" if verdict.difference is not None else "green"
            _print(console, Text(_indent(console)), Text(verdict.text(), style=style))
    hidden = len(trace.attempts) - limit
    if hidden > 0:
        console.print(f"\n… and {hidden} more decisions of this group; --limit {len(trace.attempts)} shows them")
    for dead_letter in trace.dead:
        _line(console, dead_letter, start)


def _line(console: Console, hop: Recorded, start: int) -> None:
    at = time_of(hop)
    head = Text.assemble(
        (f"{rfc3339(at)[11:23]} ", "dim"),
        (f"{(at - start) / 1e6:>+10,.1f} ms  ", "cyan"),
        (f"{hop.at:<18} ", "dim"),
        (f"{hop.type:<20} ", "bold"),
    )
    _print(console, head, Text(facts_text(hop.data)))


def _print(console: Console, head: Text, facts: Text) -> None:
    """One line of a trace. Where a terminal is too narrow for it, the facts are below it, wrapped between words."""
    facts.rstrip()
    whole = head + facts
    if (not console.is_terminal and "COLUMNS" not in os.environ) or whole.cell_len <= console.width:
        console.print(whole, soft_wrap=True)
        return
    for line in (*head.wrap(console, console.width), *facts.wrap(console, max(20, console.width - _BELOW))):
        line.rstrip()
        console.print(line if line.plain in head.plain else Text(" " * _BELOW) + line)


def facts_text(facts: Any) -> str:
    """What an event states, in one line; empty for an event of another kind."""
    match facts:
        case RawReceived():
            return f"{facts.raw_id}"
        case SignalRecorded():
            return (
                f"{facts.influencer_id} {facts.action} {facts.asset} {_share(facts.delta_micros)} @ "
                f"{_price(facts.price_micros)}  {_share(facts.before_micros)} → {_share(facts.after_micros)} "
                f"({facts.position_state.lower()})  {facts.signal_id}"
            )
        case GroupClosed():
            return (
                f"{facts.influencer_id} {facts.action} {facts.asset} {facts.trade_side} "
                f"{_usd(facts.notional_micros)} @ {_price(facts.price_micros)}, {len(facts.signal_ids)} signals  "
                f"{facts.group_id}"
            )
        case QuoteWanted():
            return f"due {rfc3339(facts.due_at)[11:23]}"
        case QuoteCaptured():
            bid, ask = facts.bids[:1], facts.asks[:1]
            source = "requested" if facts.current_at is None else "live"
            return (
                f"bid {_price(bid[0][0]) if bid else '-'} ask {_price(ask[0][0]) if ask else '-'}, "
                f"{len(facts.bids)}+{len(facts.asks)} levels, {source}  {facts.quote_id}"
            )
        case QuoteFailed():
            return f"{facts.reason}: {facts.detail}"
        case GroupMatched():
            why = ", ".join(f"{count} {reason}" for reason, count in facts.filtered.items())
            return f"{facts.matched} subscriptions matched{f', filtered: {why}' if why else ''}"
        case CopyRequested():
            return f"{facts.subscription_id} ({facts.sizing.mode})  {facts.subscriber_id}"
        case CopyDecided():
            return _decision(facts)
        case OrderSubmitted():
            return (
                f"{facts.trade_side} {_share(facts.share_micros)} {facts.asset} up to "
                f"{_price(facts.limit_price_micros)} on {facts.mode}  {facts.order_id}"
            )
        case OrderFilled():
            return (
                f"{_share(facts.share_micros)} @ {_price(facts.price_micros)} = {_usd(facts.notional_micros)}, "
                f"fee {_usd(facts.fee_micros)}  {facts.fill_id}"
            )
        case OrderSigned():
            return (
                f"nonce {facts.nonce}, expires {rfc3339(facts.expires_after_ms * 1_000_000)[11:23]}, by "
                f"{facts.agent_address}, body {facts.body_sha256[:16]}…"
            )
        case OrderSent():
            took = (facts.answered_at - facts.sent_at) / 1e6
            answer = facts.error or f"HTTP {facts.http_status} {facts.response}"
            return f"{facts.what} {facts.number + 1}, {took:,.0f} ms: {answer}"
        case OrderResulted():
            filled = sum(fill.share_micros for fill in facts.fills)
            by = " by the venue's answer" if facts.provisional else ""
            return f"{facts.how}{by}, {_share(filled)} filled {' '.join(facts.reasons)} {facts.detail}".rstrip()
        case OrderConfirmed():
            notional, fee = _usd(facts.notional_delta_micros), _usd(facts.fee_delta_micros)
            return f"{len(facts.fills)} fills of the venue: notional {notional}, fee {fee} beside what was booked"
        case FillCorrected():
            return f"notional {_usd(facts.notional_delta_micros)}, fee {_usd(facts.fee_delta_micros)}"
        case ExecutionCompleted():
            return f"{_share(facts.filled_micros)} of {_share(facts.requested_micros)} filled {' '.join(facts.reasons)}"
        case PositionChanged():
            return (
                f"{facts.subscriber_id} holds {_share(facts.share_micros)} {facts.asset} @ "
                f"{_price(facts.average_price_micros)}, realized {_usd(facts.realized_micros)}"
            )
        case MarketResolved():
            paid = ", ".join(f"{payout.asset} pays {_price(payout.price_micros)}" for payout in facts.payouts)
            return f"{facts.market} is over: {paid}  {facts.resolution_id}"
        case PositionSettled():
            paid, size = _usd(facts.cash_delta_micros), _share(-facts.share_delta_micros)
            price = _price(facts.price_micros)
            return f"{facts.subscription_id} is paid {paid} for {size} at {price}  {facts.settlement_id}"
        case SettlementCorrected():
            change, size = _usd(facts.cash_delta_micros), _share(facts.share_micros)
            prices = f"{_price(facts.paid_price_micros)} to {_price(facts.price_micros)}"
            return f"{facts.subscription_id} is corrected by {change} for {size} from {prices}  {facts.correction_id}"
        case GapDetected():
            expected, found = _share(facts.expected_micros), _share(facts.found_micros)
            return f"{facts.asset} {facts.kind}: expected {expected}, the venue reports {found}"
        case FillObserved():
            return f"the same fill as {facts.signal_id}, also reported by {facts.source_event_id}"
        case ExitOwed():
            why = " ".join(facts.reasons)
            return (
                f"{facts.subscription_id} owes {facts.trade_side} {_share(facts.share_micros)} {facts.asset}, "
                f"{facts.tries} tries, next {rfc3339(facts.due_at)[11:23]} {why}  {facts.exit_id}"
            )
        case ExitEnded():
            return f"{facts.subscription_id} owes nothing more: {facts.how} after {facts.tries} tries  {facts.exit_id}"
        case ExitScheduled():
            return f"try {facts.number} of {facts.subscription_id}, due {rfc3339(facts.due_at)[11:23]}  {facts.exit_id}"
        case ExitDue():
            quote, tries = facts.quote, f"{len(facts.exits)} tries"
            if quote is None:
                return f"{tries}: {facts.quote_reason}: {facts.detail}"
            return f"{tries} at bid {_price(quote.bid_micros)} ask {_price(quote.ask_micros)}  {quote.quote_id}"
        case BreakerTripped():
            worth, floor = _usd(facts.equity_micros), _usd(facts.floor_micros)
            return f"{facts.subscriber_id} {facts.limit}: {worth} is below {floor}"
        case DeadLettered():
            return f"{facts.stage} could not handle {facts.stream}:{facts.sequence}: {facts.error}"
    return ""


def _decision(facts: CopyDecided) -> str:
    text = f"{facts.decision} for {facts.subscription_id}"
    if facts.decision is Decision.EXECUTE:
        text += f": {facts.trade_side} {_share(facts.share_micros)} {facts.asset}"
    return f"{text} {' '.join(facts.reasons)}  {facts.attempt_id}"


def _checks(console: Console, facts: CopyDecided) -> None:
    for check in facts.checks:
        mark = ("✓", "green") if check.passed else ("✗", "red")
        head = Text.assemble(_indent(console), mark, f" {check.name:<28} ")
        _print(console, head, Text(f"input {_shown(check.name, check.input)}{_limit(check)}"))
    for reason in facts.reasons:
        _print(console, Text(f"{_indent(console)}  "), Text(f"{reason}: {reason.text}", style="yellow"))


def _limit(check: Any) -> str:
    return "" if check.limit is None else f"  limit {_shown(check.name, check.limit)}"


def _shown(name: str, value: int | str | None) -> str:
    return (
        decimal_text(value)
        if isinstance(value, int) and name.endswith("_micros")
        else "none"
        if value is None
        else str(value)
    )


def _ledger(entry: dict[str, Any], start: int) -> tuple[Text, Text]:
    place = f"{EXECUTIONS.name}:{entry['sequence']}"
    head = Text.assemble(
        (f"{entry['booked_at']:%H:%M:%S.%f}"[:12] + " ", "dim"),
        (f"{_since(entry, start):>+10,.1f} ms  ", "cyan"),
        (f"{place:<18} ", "dim"),
        (f"{'ledger entry':<20} ", "bold"),
    )
    amounts = f"shares {_share(entry['share_delta_micros'])} cash {_usd(entry['cash_delta_micros'])}"
    return head, Text(f"{entry['kind']} {amounts}  {entry['entry_id']}")


def _since(entry: dict[str, Any], start: int) -> float:
    """Milliseconds from the first detection to the booking of a ledger entry."""
    booked_at: datetime = entry["booked_at"]
    return (booked_at.timestamp() * 1e9 - start) / 1e6


def _usd(value: int) -> str:
    return f"${decimal_text(value)}" if value >= 0 else f"-${decimal_text(-value)}"


def _price(value: int) -> str:
    return decimal_text(value)


def _share(value: int) -> str:
    return decimal_text(value)
