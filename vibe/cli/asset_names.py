"""The names of assets for people: a Polymarket token as its outcome and question, other assets as they are."""

from collections.abc import Iterable
from typing import Any

import asyncpg

from projections.queries.markets import asset_names

_TOKEN_DIGITS = 20


async def names_of(database: "asyncpg.Connection[Any]", assets: Iterable[str]) -> dict[str, str]:
    """The names of those assets that are token numbers and that the read models know; empty without read models."""
    tokens = [asset for asset in assets if asset.isdigit() and len(asset) >= _TOKEN_DIGITS]
    try:
        return await asset_names(database, tokens) if tokens else {}
    except asyncpg.UndefinedTableError:
        return {}
