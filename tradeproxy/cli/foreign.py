"""JSON of another shape than expected: what reading it may raise."""

from __future__ import annotations

SHAPE_ERRORS: tuple[type[Exception], ...] = (
    *(LookupError, TypeError, AttributeError),
    *(ValueError, ArithmeticError),  # a text or a number that cannot be converted
    RecursionError,  # a nesting that json reads, but neither writes nor formats
)
