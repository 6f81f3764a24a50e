"""What goes wrong with the servers of a data folder.

Exception
└── ServerError      a server did not start, does not answer, or belongs to somebody else
"""


class ServerError(Exception):
    """Says what was expected, what came and what to do next; with the log's tail when a start failed."""
