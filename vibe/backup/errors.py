"""The error of backups."""


class BackupError(Exception):
    """A backup that cannot be taken, read or restored; the message names what is wrong and what to do."""
