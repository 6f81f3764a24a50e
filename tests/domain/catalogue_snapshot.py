"""Freeze the schemas of new events: `python -m tests.domain.catalogue_snapshot`.

Adds what is not frozen yet to catalogue.json: a stored name, a new member of an enumeration, or a new field with a
default (old events keep their meaning). Whatever else differs from what is frozen is refused: stored events must be
readable for ever.
"""

import json
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from domain.events import CATALOGUE, schema_of

FROZEN = Path(__file__).with_name("catalogue.json")

Schemas = dict[str, dict[str, Any]]


def current() -> Schemas:
    """The JSON schema of every event by stored name, without titles and descriptions."""
    schemas = {name: _bare(schema_of(event)) for name, event in sorted(CATALOGUE.items())}
    plain: Schemas = json.loads(json.dumps(schemas))
    return plain


def _bare(schema: Any) -> Any:
    """Titles and descriptions come from docstrings, which may be reworded."""
    if isinstance(schema, list):
        return [_bare(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    return {
        key: {name: _bare(inner) for name, inner in value.items()} if key in ("properties", "$defs") else _bare(value)
        for key, value in schema.items()
        if key not in ("title", "description")
    }


def frozen() -> Schemas:
    schemas: Schemas = json.loads(FROZEN.read_text())
    return schemas


def differences(before: Any, now: Any, at: str = "") -> Iterator[str]:
    """Where `now` reads differently from `before`, as paths into the schema.

    A new member of an enumeration and a new field with a default are no difference: what was stored reads as before.
    """
    if isinstance(before, dict) and isinstance(now, dict):
        for key in sorted(before.keys() | now.keys()):
            if key not in now:
                yield f"{at}/{key} is gone"
            elif key not in before:
                if not (at.endswith(("/properties", "/$defs")) and _optional(now[key], at)):
                    yield f"{at}/{key} is new"
            else:
                yield from differences(before[key], now[key], f"{at}/{key}")
    elif at.endswith("/enum"):
        yield from (f"{at} lost {word!r}" for word in before if word not in now)
    elif before != now:
        yield f"{at} was {json.dumps(before)}, is {json.dumps(now)}"


def _optional(field: Any, at: str) -> bool:
    """A definition that old fields do not refer to changes nothing; a field must have a default."""
    return at.endswith("/$defs") or "default" in field


def changed(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """What is wrong with the events that were frozen before."""
    gone = [f"{name} is gone" for name in before if name not in now]
    return gone + [f"{name}{what}" for name in before if name in now for what in differences(before[name], now[name])]


def freeze(before: Schemas, now: Schemas) -> Schemas:
    """What is to be frozen from now on. Raises SystemExit when a frozen event has changed."""
    broken = changed(before, now)
    if broken:
        raise SystemExit(
            "refused, these events are in logs already:\n  "
            + "\n  ".join(broken)
            + "\nundo the change, or give the new schema a new stored name and an upcaster beside the event"
        )
    return now


def main() -> int:
    before, now = frozen() if FROZEN.exists() else {}, current()
    FROZEN.write_text(json.dumps(freeze(before, now), indent=1, sort_keys=True) + "\n")
    added = sorted(now.keys() - before.keys())
    sys.stdout.write(f"{len(now)} events frozen, new: {', '.join(added) or 'none'}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
