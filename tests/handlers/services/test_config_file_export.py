"""Configuration files: what is exported can be imported."""

from typing import Any

import pytest
from hypothesis import given as given_any
from hypothesis import settings
from hypothesis import strategies as st

from domain.events import (
    CashDeposited,
    Mode,
    Status,
)
from domain.guardrails import GUARDRAILS
from handlers.services.config_file import key_of, line_of
from tests.handlers.services.configuration_lines import GUARDRAIL, INFLUENCER, configured, read

# --- export and import -------------------------------------------------------------------------------------

names = st.from_regex(r"\A[A-Za-z0-9][A-Za-z0-9_.:@#/-]{0,8}\Z")
statuses = st.sampled_from([status.value for status in Status])
closures = st.sampled_from(["follow_exits", "abandon"])
usd = st.integers(0, 10**15).map(lambda value: f"{value // 10**6}.{value % 10**6:06d}")
percents = st.integers(1, 10**9).map(lambda value: f"{value // 10**6}.{value % 10**6:06d}")
amounts = st.integers(1, 10**15).map(lambda value: f"{value // 10**6}.{value % 10**6:06d}")
guardrails = st.dictionaries(st.sampled_from(list(GUARDRAILS)), st.integers(0, 2**63 - 1), max_size=4)
assets = st.lists(st.text(max_size=8), max_size=3)
sizings = st.one_of(
    st.fixed_dictionaries(
        {"mode": st.sampled_from(["copy_percent", "percent_of_equity", "proportional"]), "percent": percents}
    ),
    st.fixed_dictionaries({"mode": st.just("fixed_notional"), "notional_usd": amounts}),
)
minutes = st.integers(0, 1439).map(lambda value: f"{value // 60:02d}:{value % 60:02d}")
hours = st.tuples(minutes, minutes | st.just("24:00")).filter(lambda pair: pair[0] != pair[1]).map("-".join)
filters = st.fixed_dictionaries(
    {},
    optional={
        "allowed_assets": assets,
        "blocked_assets": assets,
        "allowed_markets": assets,
        "blocked_markets": assets,
        "sides": st.lists(st.sampled_from(["BUY", "SELL"])),
        "days": st.lists(st.integers(1, 7)),
        "hours": st.lists(hours, max_size=3),
    },
)


modes = st.sampled_from(list(Mode))
scopes = st.sampled_from(["SUBSCRIBER", "EXEC_USER", "EXEC_GLOBAL"])
limits: st.SearchStrategy[Any] = guardrails
options = st.fixed_dictionaries(
    {}, optional={"limits": limits, "filters": filters, "status": statuses, "on_close": closures}
)


@st.composite
def files(draw: st.DrawFn) -> list[dict[str, Any]]:
    lines: list[dict[str, Any]] = []
    influencers = draw(st.lists(names, unique=True, min_size=1, max_size=4))
    subscribers = draw(st.lists(names, unique=True, min_size=1, max_size=4))
    for number, id in enumerate(influencers):
        addresses = [f"0x{number:02x}{end:038x}" for end in draw(st.sets(st.integers(0, 9), min_size=1, max_size=3))]
        optional = draw(
            st.fixed_dictionaries(
                {}, optional={"label": st.text(max_size=20), "status": statuses, "on_close": closures}
            )
        )
        lines.append(INFLUENCER | {"id": id, "addresses": addresses} | optional)
        if draw(st.booleans()):
            lines.append(GUARDRAIL | {"scope": f"influencer:{id}", "values": draw(guardrails)})
    for id in subscribers:
        optional = draw(
            st.fixed_dictionaries(
                {}, optional={"mode": modes, "status": statuses, "on_close": closures, "portfolio": scopes}
            )
        )
        lines.append({"kind": "subscriber", "id": id, "deposit_usd": draw(usd)} | optional)
        if draw(st.booleans()):
            lines.append(GUARDRAIL | {"scope": f"subscriber:{id}", "values": draw(guardrails)})
    for id in draw(st.lists(names, unique=True, max_size=4)):
        optional = draw(options)
        lines.append(
            {
                "kind": "subscription",
                "id": id,
                "subscriber_id": draw(st.sampled_from(subscribers)),
                "influencer_id": draw(st.sampled_from(influencers)),
                "sizing": draw(sizings),
            }
            | optional
        )
    return draw(st.permutations(lines))


@settings(derandomize=True, deadline=None)
@given_any(files())
def test_what_is_exported_can_be_imported_and_changes_nothing(lines: list[dict[str, Any]]) -> None:
    events = read(*lines)
    assert len(events) == len(lines)
    exported = [line_of(event) for event in events]
    assert read(*exported, known=configured(events)) == events
    assert [line_of(event) for event in read(*exported)] == exported


def test_other_events_have_no_line() -> None:
    event = CashDeposited(deposit_id="d", subscriber_id="sam", cash_delta_micros=1, config_sequence=1, deposited_at=1)
    with pytest.raises(TypeError, match="CashDeposited is not configuration"):
        line_of(event)
    with pytest.raises(TypeError, match="CashDeposited is not configuration"):
        key_of(event)
