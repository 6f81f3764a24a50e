"""What can go wrong with a venue, whichever it is: gateways translate foreign errors into these two."""


class WireError(ValueError):
    """A payload that is not what the venue documents."""


class VenueUnavailableError(Exception):
    """The venue did not answer usefully: network, 429 or 5xx. Worth another try."""
