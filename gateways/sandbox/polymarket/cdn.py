"""The content network in front of the Data API: the same URL is answered with the old body until it expires.

It looks at nothing but the URL, so a request gets past it only with a query parameter that changed. A request's own
Cache-Control is ignored.
"""

from dataclasses import dataclass
from typing import Final

MAX_AGE_S: Final = {"/data/v2/trades": 300, "/data/v2/activity": 15}


@dataclass(frozen=True)
class _Kept:
    body: bytes
    at_ns: int


class Cdn:
    """Bodies by URL, with the venue's time at which they were made."""

    def __init__(self) -> None:
        self._kept: dict[str, _Kept] = {}

    def headers(self, path: str, age_s: int | None) -> dict[str, str]:
        """What a response says about it; `age_s` is None for a fresh one."""
        longest = MAX_AGE_S.get(path)
        if longest is None:
            return {"Cache-Control": "no-store"}
        hit = {"X-Cache": "Miss from cloudfront"} if age_s is None else {"X-Cache": "Hit from cloudfront"}
        return {"Cache-Control": f"public, max-age={longest}", **hit, "Age": str(age_s or 0)}

    def get(self, path: str, url: str, now_ns: int) -> tuple[bytes, int] | None:
        """The kept body and its age in s, unless it has expired."""
        kept = self._kept.get(url)
        if kept is None:
            return None
        age_s = (now_ns - kept.at_ns) // 1_000_000_000
        if age_s >= MAX_AGE_S[path]:
            del self._kept[url]
            return None
        return kept.body, age_s

    def put(self, path: str, url: str, body: bytes, now_ns: int) -> None:
        """Keep a body where the path is one that is kept."""
        if path in MAX_AGE_S:
            self._kept[url] = _Kept(body, now_ns)
