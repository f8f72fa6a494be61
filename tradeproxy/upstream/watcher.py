"""Who is told of the course of one account's stream."""

from __future__ import annotations


class StreamWatcher:
    """Is told where a stream stands, over all of its connections; this one makes nothing of it."""

    def stream_opens(self) -> None:
        """Take note that a connection is there: events may come from now on."""

    def stream_is_up(self) -> None:
        """Take note that every event comes from now on; the account has been told before."""

    def stream_is_lost(self) -> None:
        """Take note that the connection, or the attempt at one, is over; the account is told afterwards."""

    def stop(self) -> None:
        """End whatever is under way: there will be no further connection."""
