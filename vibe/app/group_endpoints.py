"""Health and metrics of a supervised group on one port: the parent asks its children and answers for all.

Metrics get the label `process`, and health names each process.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from typing import Any

import aiohttp
import prometheus_client

from vibe.app.observability import Endpoints
from vibe.app.supervisor import Supervisor

_ASK_SECONDS = 2.0


def group_endpoints(supervisor: Supervisor) -> Endpoints:
    """What the parent answers for its children."""

    async def health() -> dict[str, Any]:
        names = [child.name for child in supervisor.children.values() if child.serves_http]
        bodies = await asyncio.gather(*(_ask(supervisor.children[name].http_port, "healthz") for name in names))
        states = dict(zip(names, map(_state, bodies), strict=True))
        return {
            "ok": all(state["ok"] for state in states.values()),
            "ready": all(state["ready"] for state in states.values()),
            "processes": states,
            "problems": [f"{name}: {problem}" for name, state in states.items() for problem in state["problems"]],
        }

    async def metrics() -> bytes:
        children = {child.name: child.http_port for child in supervisor.children.values() if child.serves_http}
        bodies = await asyncio.gather(*(_ask(port, "metrics") for port in children.values()))
        parts = {name: body.decode() for name, body in zip(children, bodies, strict=True) if body is not None}
        return merged({"supervisor": prometheus_client.generate_latest().decode(), **parts}).encode()

    return Endpoints(health, metrics)


def merged(parts: Mapping[str, str]) -> str:
    """The metrics of several processes, each sample with the label `process`; `parts` has the text of each by name."""
    heads: dict[str, list[str]] = {}
    samples: dict[str, list[str]] = {}
    for process, text in parts.items():
        family = ""
        for line in text.splitlines():
            if line.startswith("# "):
                _, kind, family, *_ = line.split(" ", 3)
                head = heads.setdefault(family, [])
                if not any(known.split(" ", 2)[1] == kind for known in head):
                    head.append(line)
            elif line:
                samples.setdefault(family, []).append(_labelled(line, process))
    return "".join("".join(f"{line}\n" for line in (*head, *samples.get(family, ()))) for family, head in heads.items())


def _labelled(sample: str, process: str) -> str:
    name, brace, rest = sample.partition("{")
    if brace and " " not in name:
        return f'{name}{{process="{process}",{rest}'
    name, _, value = sample.partition(" ")
    return f'{name}{{process="{process}"}} {value}'


async def _ask(port: int | None, page: str) -> bytes | None:
    if port is None:
        return None
    try:
        async with (
            aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=_ASK_SECONDS)) as session,
            session.get(f"http://127.0.0.1:{port}/{page}") as answer,
        ):
            return await answer.read()
    except (aiohttp.ClientError, TimeoutError, OSError):
        return None


def _state(body: bytes | None) -> dict[str, Any]:
    if body is None:
        return {"ok": False, "ready": False, "problems": ["it does not answer"]}
    found: dict[str, Any] = {"problems": [], **json.loads(body)}
    return found
