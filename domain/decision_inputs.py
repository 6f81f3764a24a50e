"""What a decision uses besides its request and portfolio (docs/design.md, decisions)."""

from typing import NamedTuple

from domain.events import (
    ControlState,
    ExecutionRequested,
)
from domain.mark_prices import Asset, MarkPrices
from domain.operator_switches import Controls
from domain.reason_codes import Reason


class DecisionInputs(NamedTuple):
    """Switches, marks and resolutions, and the last sequence of each stream that they take into account."""

    engine: ControlState
    stopped: bool
    disabled: Reason | None
    resolved: bool
    marks: MarkPrices
    config_sequence: int
    marks_sequence: int


def decision_inputs_of(
    request: ExecutionRequested,
    controls: Controls,
    marks: MarkPrices,
    *,
    config_sequence: int,
    marks_sequence: int,
) -> DecisionInputs:
    """The inputs as of these sequences: the same now and whenever the decision is made again."""
    asset: Asset = (request.venue.value, request.asset)
    return DecisionInputs(
        controls.engine(config_sequence),
        controls.engine_stops(request.detect_time, config_sequence),
        disabled_of(request, controls, config_sequence),
        marks.resolution(asset, marks_sequence) is not None,
        marks,
        config_sequence,
        marks_sequence,
    )


def disabled_of(request: ExecutionRequested, controls: Controls, config_sequence: int) -> Reason | None:
    """Why an operator lets a request open nothing, as of a sequence of CONFIG; None when nothing is disabled."""
    return controls.disabled(
        request.influencer_id, request.subscriber_id, request.market, request.asset, config_sequence
    )
