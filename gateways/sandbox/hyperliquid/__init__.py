"""A local Hyperliquid that speaks the real wire formats: WebSocket at `/ws` and `POST /info` on one port.

`serve` plays either a seeded order flow (`FlowSource`) or a recording of the venue (`RecordingSource`).
"""

from gateways.sandbox.hyperliquid.recording import RecordingSource
from gateways.sandbox.hyperliquid.server import Sandbox, serve
from gateways.sandbox.hyperliquid.sources import FlowSource
from gateways.sandbox.hyperliquid.traders import INFLUENCERS, SandboxInfluencer
from gateways.sandbox.hyperliquid.websocket_hub import Limits, Usage

__all__ = [
    "INFLUENCERS",
    "FlowSource",
    "Limits",
    "RecordingSource",
    "Sandbox",
    "SandboxInfluencer",
    "Usage",
    "serve",
]
