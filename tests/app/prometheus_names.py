"""The names of metrics in queries, and those that exist."""

import re

from vibe.app.metrics_page import declared


def existing() -> set[str]:
    """Every name that a query may use: of metrics, and of the series of histograms."""
    found = declared()
    return {metric.name for metric in found} | {
        f"{metric.name}{end}" for metric in found for end in ("_bucket", "_count")
    }


def used(query: str) -> set[str]:
    """The names in a query."""
    return set(re.findall(r"\b(?:vibe_\w+|slo:\w+:\w+|up)\b(?=[\[{ )]|$)", query))
