"""The two errors of every venue gateway, into which it translates all others."""


class WireError(ValueError):
    """A payload that is not what the venue documents."""


class VenueUnavailableError(Exception):
    """The venue gave no usable answer: network, 408, 425, 429 or 5xx. A retry may succeed."""
