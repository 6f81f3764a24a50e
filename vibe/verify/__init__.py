"""Verification of the whole log: what is derived is computed again from what it was derived from."""
