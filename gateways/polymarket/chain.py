"""Fills on Polygon: their logs, the feed of them, and a node to ask for what a feed has missed."""

from gateways.polymarket.feed import Connected, fills
from gateways.polymarket.logs import (
    CHAIN_ID,
    EXCHANGES,
    EXCHANGES_V1,
    FILLED,
    FILLED_V1,
    ChainFill,
    Log,
    block_time,
    log_id,
    parse_log,
)
from gateways.polymarket.node import PUSD, Chain

__all__ = [
    "CHAIN_ID",
    "EXCHANGES",
    "EXCHANGES_V1",
    "FILLED",
    "FILLED_V1",
    "PUSD",
    "Chain",
    "ChainFill",
    "Connected",
    "Log",
    "block_time",
    "fills",
    "log_id",
    "parse_log",
]
