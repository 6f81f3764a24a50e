"""How `vibe leaderboard` and `vibe metrics` show their answers."""

from collections.abc import Sequence

from rich.console import Console

from domain.evidence_score import WEIGHTS as EVIDENCE_WEIGHTS
from domain.evidence_score import Evidence
from domain.micros import decimal_text
from projections.queries.evidence import EvidenceRow
from projections.queries.leaderboard import WEIGHTS, Ranked
from projections.queries.round_trips import InfluencerMetrics
from projections.queries.subscribers import SubscriberMetrics
from vibe.cli.output import show, table


def show_leaderboard(found: list[Ranked]) -> None:
    made = table(
        "influencer",
        "rank",
        "score",
        "trips won",
        "volume USD",
        "drawdown USD",
        "risk ratio",
        "best USD",
        "profit USD",
        "known for",
    )
    for each in found:
        trader = each.trader
        made.add_row(
            trader.influencer_id,
            str(each.rank),
            f"{each.score_micros / 10_000:.1f}",
            f"{trader.won}/{trader.trips}",
            f"{trader.volume_micros / 1_000_000:,.0f}",
            _usd(trader.drawdown_micros),
            f"{trader.risk_ratio_micros / 1_000_000:.2f}",
            _usd(trader.best_micros),
            _usd(trader.profit_micros),
            "" if each.age_days is None else f"{each.age_days + 1} d",
        )
    show(made)


def show_board(found: Sequence[Ranked] | Sequence[EvidenceRow], *, why: bool) -> None:
    """The board, or with `why` the parts of each row's score."""
    plain = [row for row in found if isinstance(row, Ranked)]
    evidence = [row for row in found if isinstance(row, EvidenceRow)]
    if plain:
        show_leaderboard(plain)
    if evidence:
        _show_evidence(evidence)
    if not why:
        return
    for row in found:
        made = table("part", "weight", "of 100", "from", text=("from",))
        if isinstance(row, EvidenceRow):
            weights, inputs = EVIDENCE_WEIGHTS, _evidence_inputs(row)
        else:
            weights, inputs = WEIGHTS, _plain_inputs(row)
        for name, weight in weights.items():
            part = row.parts.get(name)
            of = "-" if part is None else f"{part / 10_000:.1f}"
            made.add_row(name.removesuffix("_micros"), f"{weight} %", of, inputs[name])
        Console().print()
        show(made)


def _show_evidence(found: Sequence[EvidenceRow]) -> None:
    made = table(
        "influencer", "rank", "score", "confidence", "trips", "lost", "days", "return a trip (90 %)", "t", "drawdown",
        "profit USD", "flags", "missing", text=("flags", "missing"),
    )  # fmt: skip
    for row in found:
        one = row.evidence
        made.add_row(
            row.influencer_id,
            "-" if row.rank is None else str(row.rank),
            "-" if row.score_micros is None else f"{row.score_micros / 10_000:.1f}",
            row.confidence.value,
            f"{one.trips:,}",
            f"{one.losing_trips:,}",
            f"{one.active_days:,}",
            _interval(one),
            _ratio(one.t_micros),
            _percent(one.drawdown_micros),
            _usd(one.net_micros),
            ", ".join(one.flags),
            ", ".join(one.missing),
        )
    show(made)


def _interval(one: Evidence) -> str:
    mean = f"{one.mean_micros / 10_000:.2f} %"
    if one.low_micros is None or one.high_micros is None:
        return mean
    return f"{mean} ({one.low_micros / 10_000:.2f} to {one.high_micros / 10_000:.2f})"


def _ratio(micros: int | None) -> str:
    return "-" if micros is None else f"{micros / 1_000_000:.2f}"


def _evidence_inputs(row: EvidenceRow) -> dict[str, str]:
    one = row.evidence
    basis = "equity with unrealized profit" if one.drawdown_with_unrealized else "completed trips only"
    return {
        "t": f"{_ratio(one.t_micros)}: mean return {_interval(one)} over {one.active_days} days",
        "drawdown": f"{_percent(one.drawdown_micros)}, of {basis}",
        "consistency": f"lower t-value of the two halves {_ratio(one.consistency_micros)}",
        "copyability": f"copies earned {_ratio(one.copyability_micros)} of its profit",
    }


def _plain_inputs(row: Ranked) -> dict[str, str]:
    one = row.trader
    return {
        "win_rate_micros": f"{one.won} of {one.trips} trips won",
        "volume_micros": f"{_usd(one.volume_micros)} USD",
        "drawdown_share_micros": f"{_percent(one.drawdown_share_micros)} of the volume",
        "risk_ratio_micros": _ratio(one.risk_ratio_micros),
        "best_micros": f"{_usd(one.best_micros)} USD",
    }


def show_influencer(one: InfluencerMetrics) -> None:
    made = table(one.influencer_id, one.label)
    for label, value in (
        ("status", f"{one.status}, {one.control}"),
        ("signals", f"{one.signals:,} ({one.signals_per_day_micros / 1_000_000:,.1f} a day with signals)"),
        ("volume USD", _usd(one.volume_micros)),
        ("round trips", f"{one.trips:,}, won {_percent(one.win_rate_micros)}"),
        ("profit of round trips USD", _usd(one.profit_micros)),
        ("best, worst USD", f"{_usd(one.best_micros)}, {_usd(one.worst_micros)}"),
        ("drawdown USD", _usd(one.drawdown_micros)),
        ("fees USD", _usd(one.fee_micros)),
        ("gaps", f"{one.gaps:,}"),
        ("groups", f"{one.groups:,}"),
        ("active subscribers", f"{one.subscribers:,}"),
        ("decisions", f"{one.executed:,} executed, {one.skipped:,} skipped"),
        ("copied USD", f"{_usd(one.copied_volume_micros)} in {one.copied_fills:,} fills"),
    ):
        made.add_row(label, value)
    show(made)


def show_subscriber(found: SubscriberMetrics) -> None:
    console = Console()
    profits = {profit.influencer_id: profit.profit_micros for profit in found.by_influencer}
    console.print(f"{found.subscriber_id}: profit {decimal_text(found.profit_micros)} USD", highlight=False)
    copied = table("copied", "profit USD", "decisions", "executed", "filled", "partial", "slippage bps", "fees USD")
    lags = table(
        "milliseconds",
        "detection p50",
        "detection p95",
        "detection p99",
        "decision p50",
        "decision p95",
        "decision p99",
    )
    for each in (found.copying, *found.copying_by_influencer):
        name = each.influencer_id or "all"
        copied.add_row(
            name,
            _usd(profits.get(each.influencer_id, 0) if each.influencer_id else found.profit_micros),
            f"{each.decisions:,}",
            f"{each.executed:,}",
            _percent(each.fill_rate_micros),
            _percent(each.partial_rate_micros),
            f"{each.slippage_bps_micros / 1_000_000:.2f}",
            _usd(each.fee_micros),
        )
        detection = (each.detection_p50_us, each.detection_p95_us, each.detection_p99_us)
        decision = (each.decision_p50_us, each.decision_p95_us, each.decision_p99_us)
        lags.add_row(name, *map(_milliseconds, detection + decision))
    show(copied, console)
    console.print()
    show(lags, console)
    console.print("detection: from the venue's time to ours; decision: from detection to the decision", style="dim")


def _percent(micros: int) -> str:
    return f"{micros / 10_000:.1f} %"


def _usd(micros: int) -> str:
    return f"{micros / 1_000_000:,.2f}"


def _milliseconds(microseconds: int | None) -> str:
    return "-" if microseconds is None else f"{microseconds / 1000:,.1f}"
