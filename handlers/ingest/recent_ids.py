"""Ids of events that were processed before, as many as fit."""

from collections import OrderedDict


class RecentIds(OrderedDict[str, None]):
    """The newest ids; beyond `limit` the oldest is forgotten."""

    def __init__(self, limit: int = 200_000) -> None:
        super().__init__()
        self._limit = limit

    def add(self, key: str) -> bool:
        """Remember an id; True when it is new."""
        if key in self:
            return False
        self[key] = None
        if len(self) > self._limit:
            self.popitem(last=False)
        return True
