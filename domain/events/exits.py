"""Events of EXECUTIONS about owed exits: what a copy is to give up and has not given up yet."""

from enum import StrEnum

from domain.events.catalogue import Event, stored
from domain.events.types import Action, GroupCause, TradeSide
from domain.reason_codes import Reason
from domain.venues import Venue


@stored("exit.owed")
class ExitOwed(Event, frozen=True, kw_only=True):
    """What a copy is to give up and has not sold or bought back yet: all that is owed of one subscription and asset.

    It replaces what was owed before. `group_id`, the action (DECREASE or CLOSE), the influencer's price (0 when it did
    not trade) and its times are those of the newest reduction; `owed_since` is the detection of the first. `tries` were
    made, `refused` decisions found no price inside their band, `reasons` are those of the newest decision. The next try
    is at `due_at`, also while the engine is paused if `while_paused`. What was ordered to close (`cause` ORDERED) has
    no decision: `attempt_id` is empty, and the times are those of the order.
    """

    exit_id: str
    subscription_id: str
    subscriber_id: str
    influencer_id: str
    group_id: str
    attempt_id: str
    venue: Venue
    asset: str
    market: str
    action: Action
    trade_side: TradeSide
    share_micros: int
    price_micros: int
    event_time: int
    detect_time: int
    cause: GroupCause
    owed_since: int
    tries: int
    refused: int
    reasons: tuple[Reason, ...]
    due_at: int
    while_paused: bool
    owed_at: int


class ExitEnd(StrEnum):
    """Why nothing is owed any more. ORDERED: a live order for all of it is on its way, and what it does not fill is
    owed again under the same id."""

    FILLED = "FILLED"
    ORDERED = "ORDERED"
    SETTLED = "SETTLED"
    OPENED_AGAIN = "OPENED_AGAIN"
    BELOW_MINIMUM = "BELOW_MINIMUM"
    NOT_HELD = "NOT_HELD"


@stored("exit.ended")
class ExitEnded(Event, frozen=True, kw_only=True):
    """Nothing is owed of this exit any more. `share_micros` was owed last, for `reasons`; `tries` were made. The group,
    the price and the cause are those of the newest reduction."""

    exit_id: str
    subscription_id: str
    subscriber_id: str
    influencer_id: str
    group_id: str
    venue: Venue
    asset: str
    market: str
    trade_side: TradeSide
    cause: GroupCause
    share_micros: int
    price_micros: int
    how: ExitEnd
    tries: int
    refused: int
    reasons: tuple[Reason, ...]
    while_paused: bool
    owed_since: int
    ended_at: int
