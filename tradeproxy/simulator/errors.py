"""What Alpaca answers in place of what was asked for."""

from __future__ import annotations


class ApiError(Exception):  # an answer, not an error of ours
    """An HTTP status, a code of Alpaca's own, and a sentence; `retry_after` is a header's, in seconds."""

    def __init__(
        self, status: int, code: int, message: str, retry_after: int | None = None
    ) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = message
        self.retry_after = retry_after


def unprocessable(message: str) -> ApiError:
    """Return the refusal of a request that makes no sense."""
    return ApiError(422, 40010001, message)
