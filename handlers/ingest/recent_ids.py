"""Ids seen before, as many as fit."""

from collections import OrderedDict


class RecentIds(OrderedDict[str, None]):
    """The newest ids, bounded; `add` says whether an id is new."""

    def __init__(self, limit: int = 200_000) -> None:
        super().__init__()
        self._limit = limit

    def add(self, key: str) -> bool:
        if key in self:
            return False
        self[key] = None
        if len(self) > self._limit:
            self.popitem(last=False)
        return True
