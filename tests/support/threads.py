"""Work in several threads at once."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any


def together(amount: int, work: Callable[[int], Any]) -> list[Any]:
    """Do the work in threads that start at the same moment."""
    barrier = threading.Barrier(amount)

    def one(number: int) -> Any:
        barrier.wait()
        return work(number)

    with ThreadPoolExecutor(amount) as pool:
        return list(pool.map(one, range(amount)))
