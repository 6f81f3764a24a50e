"""Errors of keys. None of their texts holds a key or a password."""


class KeysError(Exception):
    """The keys cannot be read or changed as asked; the text says why and what to do."""
