"""The serialization of the library's events: CloudEvents as JSON, readable with `nats stream view`.

`type` is the topic. A state that is JSON is stored unchanged in `data`; another one (compressed, encrypted) in
`data_base64`. Both restore the same bytes.
"""

import base64
from typing import Literal
from uuid import UUID

import msgspec
from eventsourcing.persistence import StoredEvent
from msgspec import UNSET, Raw, Struct, UnsetType

from streams.subjects import token


class Serialization(Struct, frozen=True, omit_defaults=True, kw_only=True):
    """One stored event. `newest` is the highest version on its subject so far, if that is not the event's own."""

    specversion: str
    type: str
    source: str
    id: str
    originator: str
    kind: Literal["uuid", "text"] = "uuid"
    version: int
    newest: int | None = None
    commit: str
    data: Raw | UnsetType = UNSET
    data_base64: str | UnsetType = UNSET

    @property
    def originator_id(self) -> UUID | str:
        return UUID(self.originator) if self.kind == "uuid" else self.originator

    @property
    def state(self) -> bytes:
        return bytes(self.data) if isinstance(self.data, Raw) else base64.b64decode(self.data_base64 or "")

    @property
    def newest_version(self) -> int:
        return self.version if self.newest is None else self.newest

    def event(self) -> StoredEvent:
        return StoredEvent(self.originator_id, self.version, self.type, self.state)


class TrackingRow(Struct, frozen=True, kw_only=True):
    """One tracking row: `application`'s events have been processed up to `notification_id`."""

    application: str
    notification_id: int
    commit: str


_EVENT = msgspec.json.Decoder(Serialization)
_ROW = msgspec.json.Decoder(TrackingRow)


def event_subject(stream: str, originator_id: UUID | str) -> str:
    """The literal subject of an aggregate."""
    return f"es.{stream}.event.{token(str(originator_id))}"


def tracking_subject(stream: str, application: str) -> str:
    return f"es.{stream}.tracking.{token(application)}"


def encode(event: StoredEvent, stream: str, commit: str, newest: int) -> bytes:
    """The stored bytes of an event; `newest` is the highest version on its subject, including this event."""
    text = _is_json(event.state)
    return msgspec.json.encode(
        Serialization(
            specversion="1.0",
            type=event.topic,
            source=f"eventsourcing/{stream}",
            id=f"{event.originator_id}:{event.originator_version}",
            originator=str(event.originator_id),
            kind="uuid" if isinstance(event.originator_id, UUID) else "text",
            version=event.originator_version,
            newest=newest if newest != event.originator_version else None,
            commit=commit,
            data=Raw(event.state) if text else UNSET,
            data_base64=UNSET if text else base64.b64encode(event.state).decode(),
        )
    )


def decode(payload: bytes) -> Serialization:
    return _EVENT.decode(payload)


def decode_row(payload: bytes) -> TrackingRow:
    return _ROW.decode(payload)


def _is_json(state: bytes) -> bool:
    try:
        state.decode()
        return bytes(msgspec.json.decode(state, type=Raw)) == state  # surrounding space would be lost
    except (msgspec.DecodeError, UnicodeDecodeError):
        return False
