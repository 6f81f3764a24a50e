"""A local Polymarket that speaks the real wire formats: Data API, Gamma, CLOB, market channel and Polygon on one port.

`PolymarketSandbox` plays either a seeded order flow (`FlowSource`) or recorded pages (`RecordingSource`).
"""

from gateways.sandbox.polymarket.markets import MARKETS, Listing
from gateways.sandbox.polymarket.recording import RecordingSource
from gateways.sandbox.polymarket.server import PolymarketSandbox, serve
from gateways.sandbox.polymarket.sources import FlowSource
from gateways.sandbox.polymarket.traders import INFLUENCERS, SandboxInfluencer
from gateways.sandbox.polymarket.websocket_hub import Limits

__all__ = [
    "INFLUENCERS",
    "MARKETS",
    "FlowSource",
    "Limits",
    "Listing",
    "PolymarketSandbox",
    "RecordingSource",
    "SandboxInfluencer",
    "serve",
]
