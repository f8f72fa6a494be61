"""What only a garbage collection can free."""

from __future__ import annotations

import gc
from collections import Counter
from collections.abc import Callable

from twisted.trial.unittest import SynchronousTestCase


def count_garbage(
    case: SynchronousTestCase, action: Callable[[], None], least: int
) -> dict[str, int]:
    """Call `action`, and return how many objects it leaves in reference cycles, by their type.

    Types with fewer than `least` objects are left out.
    """
    action()  # the first time it may fill caches
    case.addCleanup(gc.enable)
    case.addCleanup(gc.set_debug, gc.get_debug())
    case.addCleanup(gc.unfreeze)
    gc.disable()
    gc.freeze()  # what exists by now is not looked at, so the collection is a short one
    action()
    gc.set_debug(gc.DEBUG_SAVEALL)
    gc.collect()
    found = Counter(type(each).__name__ for each in gc.garbage)
    gc.garbage.clear()
    gc.set_debug(0)
    return {name: count for name, count in found.items() if count >= least}
