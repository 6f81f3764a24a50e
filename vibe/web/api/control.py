"""Switches of operators, in force from the next decision on. Each is an event in CONFIG with its actor."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta, Struct

from domain.events import ControlState, ControlTarget
from handlers.services.config_import import store_control
from vibe.web import audit
from vibe.web.problems import NotFoundError
from vibe.web.routing import Call, Role, Routes

routes = Routes("control")

Text = Annotated[str, Meta(max_length=500)]
Key = Annotated[str, Meta(min_length=1, max_length=200)]


class Note(Struct, frozen=True, kw_only=True):
    """Why, stored with the event."""

    note: Text = ""


class Target(Struct, frozen=True, kw_only=True):
    target: Literal["influencer", "subscriber", "market"]
    id: Key
    note: Text = ""


class OfSubscriber(Struct, frozen=True, kw_only=True):
    subscriber_id: Key
    note: Text = ""


class Switched(Struct, frozen=True, kw_only=True):
    """The switch as it is stored; `sequence` is in CONFIG, for `after=CONFIG:<sequence>`."""

    target: str
    id: str
    state: str
    actor: str
    sequence: int


@routes.post("/control/pause", "pauseEngine", role=Role.OPERATOR)
async def pause(call: Call, body: Note) -> Switched:
    """Pause the engine: everything is recorded, nothing is copied, and nothing of it is copied later."""
    return await _switch(call, ControlTarget.ENGINE, "", ControlState.PAUSED, body.note)


@routes.post("/control/resume", "resumeEngine", role=Role.OPERATOR)
async def resume(call: Call, body: Note) -> Switched:
    """Let the engine copy again what is detected from now on."""
    return await _switch(call, ControlTarget.ENGINE, "", ControlState.RUNNING, body.note)


@routes.post("/control/record-only", "recordOnly", role=Role.OPERATOR)
async def record_only(call: Call, body: Note) -> Switched:
    """Decide everything and execute nothing."""
    return await _switch(call, ControlTarget.ENGINE, "", ControlState.RECORD_ONLY, body.note)


@routes.post("/control/disable", "disable", role=Role.OPERATOR)
async def disable(call: Call, body: Target) -> Switched:
    """Open nothing new for an influencer, a subscriber or a market; reductions go through."""
    return await _switch(call, ControlTarget(body.target), body.id, ControlState.DISABLED, body.note)


@routes.post("/control/enable", "enable", role=Role.OPERATOR)
async def enable(call: Call, body: Target) -> Switched:
    """Enable an influencer, a subscriber or a market again."""
    return await _switch(call, ControlTarget(body.target), body.id, ControlState.ENABLED, body.note)


@routes.post("/control/reset-breakers", "resetBreakers", role=Role.OPERATOR)
async def reset_breakers(call: Call, body: OfSubscriber) -> Switched:
    """Reset the tripped breakers of a subscriber; they then measure from its equity at the reset."""
    return await _switch(call, ControlTarget.BREAKERS, body.subscriber_id, ControlState.RESET, body.note)


async def _switch(call: Call, target: ControlTarget, key: str, state: ControlState, note: str) -> Switched:
    site = call.site
    directory = site.configuration.directory
    known = {
        ControlTarget.INFLUENCER: directory.influencers.keys(),
        ControlTarget.SUBSCRIBER: directory.subscribers.keys(),
        ControlTarget.BREAKERS: directory.subscribers.keys(),
    }
    if target in known and key not in known[target]:
        name = "subscriber" if target is ControlTarget.BREAKERS else target.value
        raise NotFoundError(f"{name} {key!r} is not configured; see GET /api/v1/config/{name}s")
    sequence = await store_control(site.connection, target, key, state, actor=call.actor, note=note, now=site.clock())
    await site.configuration.reached(sequence)
    site.cache.forget()
    await audit.record(
        site.pool,
        actor=call.actor,
        action=f"control {state.value}",
        outcome="done",
        address=call.address,
        detail=f"CONFIG:{sequence} {target.value} {key} {note}".strip(),
    )
    return Switched(target=target.value, id=key, state=state.value, actor=call.actor, sequence=sequence)
