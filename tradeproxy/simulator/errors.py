"""Alpaca's error responses."""

from __future__ import annotations


class ApiError(Exception):  # a response, not a fault of the simulator
    """An error response: an HTTP status, Alpaca's own code, and a message.

    `retry_after` is the value of the Retry-After header, in seconds.
    """

    def __init__(
        self, status: int, code: int, message: str, retry_after: int | None = None
    ) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = message
        self.retry_after = retry_after


def unprocessable(message: str) -> ApiError:
    """Return the error for an invalid request."""
    return ApiError(422, 40010001, message)


def bad_request(message: str, code: int = 40010000) -> ApiError:
    """Return the error for a request that cannot be understood."""
    return ApiError(400, code, message)
