"""Errors of the servers of a data folder.

Exception
└── ServerError      a server did not start, does not answer, or belongs to another process
"""


class ServerError(Exception):
    """The message says what was expected, what came and what to do; after a failed start with the end of the log."""
