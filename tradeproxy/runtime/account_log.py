"""The lines about one account in the log: each begins with its name."""

from __future__ import annotations

from twisted.logger import Logger, LogLevel


class AccountLogger(Logger):
    """A logger of an object that belongs to one account. The field `account` has the name too."""

    def __init__(self, owner: object, account: str) -> None:
        super().__init__(f"{type(owner).__module__}.{type(owner).__name__}")
        self._account = account

    def emit(
        self,
        level: LogLevel,
        format: str | None = None,  # noqa: A002  # Twisted's name
        **kwargs: object,
    ) -> None:
        """Log a line; the other methods call this."""
        super().emit(level, f"{{account}}: {format}", account=self._account, **kwargs)
