"""How far a venue's time may be ahead of this system's (docs/design.md, events)."""

LONGEST_AHEAD_NS = 300 * 1_000_000_000
"""Five minutes: clocks differ by less, and a time from further ahead is an error of the venue.

Whatever is dated later than it was detected counts as newer than all that really follows, until that time has come.
"""


def is_ahead(event_time: int, detect_time: int) -> bool:
    """True when a venue's time cannot be right: it is beyond the detection by more than the bound. Both in ns."""
    return event_time > detect_time + LONGEST_AHEAD_NS
