"""The web front: an HTTP API and pages over `handlers/services` and `projections/queries`.

Like the command line it asks and stores intents. It runs no stage, reaches no venue, and appends to CONFIG and DEAD
only.
"""
