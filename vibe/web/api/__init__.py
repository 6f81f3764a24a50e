"""The operations of the API, one module per area. `ROUTES` lists all of them in the order of the document."""

from vibe.web.api import (
    config,
    contracts,
    control,
    copies,
    influencers,
    markets,
    overview,
    portfolios,
    session,
    subscribers,
    system,
    trace,
)

ROUTES = [
    route
    for area in (
        contracts,
        session,
        overview,
        influencers,
        subscribers,
        portfolios,
        copies,
        markets,
        trace,
        system,
        config,
        control,
    )
    for route in area.routes.found
]
