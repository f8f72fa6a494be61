"""How many examples Hypothesis tries: few in the suite, many in `make properties`."""

from __future__ import annotations

import os
from typing import Any

from hypothesis import settings

VARIABLE = "TEST_EXAMPLES"
"""The environment variable with the factor; without it, each run tries the same examples."""


def examples(count: int = 100, **options: Any) -> settings:
    """Return settings for a test with `count` examples, or with as many times more.

    options: more arguments of Hypothesis' settings.
    """
    times = int(os.environ.get(VARIABLE, "1"))
    return settings(deadline=None, derandomize=times == 1, max_examples=count * times, **options)
