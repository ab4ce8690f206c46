"""A bound on the bytes of results in memory, between the service's response and the file."""

from __future__ import annotations

import asyncio
import itertools

BYTES_IN_FLIGHT = 16 * 1024 * 1024
_UNKNOWN_SIZE = 256 * 1024  # bytes reserved for the first responses without a known length
_DECAY = 0.98  # of the bytes reserved for later ones, with each result: one long page says little about the next
_ROW_BYTES = 4000  # bytes of a result besides its content


class MemoryBudget:
    """Admits responses while less than `limit` bytes of results are held, over all batches.

    Results are assumed to be written in the order of their reservations. The first one that is not taken yet is
    admitted once everything taken is written, even beyond the limit: all others may be waiting for it, or it is larger
    than `limit` by itself.

    `held` is the number of bytes held now, `peak` the highest so far.
    """

    def __init__(self, limit: int = BYTES_IN_FLIGHT) -> None:
        self.limit = limit
        self.held = 0
        self.peak = 0
        self._being_written = 0
        self._largest = float(_UNKNOWN_SIZE)
        self._numbers = itertools.count()
        self._not_taken: dict[Reservation, None] = {}  # in order
        self._waiting: dict[Reservation, tuple[int, asyncio.Future[None]]] = {}

    def reserve(self) -> Reservation:
        """Return the reservation of the result that is requested next. It holds nothing yet."""
        reservation = Reservation(self, next(self._numbers))
        self._not_taken[reservation] = None
        return reservation

    async def _admit(self, reservation: Reservation, amount: int) -> None:
        if not self._waiting and self.held - reservation.held + amount <= self.limit:
            self._hold(reservation, amount)
            return
        admitted = asyncio.get_running_loop().create_future()
        self._waiting[reservation] = (amount, admitted)
        self._hold(reservation, 0)  # a repeated request has no use for the response before it
        try:
            await admitted
        finally:
            self._waiting.pop(reservation, None)

    def _hold(self, reservation: Reservation, amount: int) -> None:
        self.held += amount - reservation.held
        reservation.held = amount
        if self._waiting:
            self._admit_waiting()
        self.peak = max(self.peak, self.held)

    def _admit_waiting(self) -> None:
        first = next(iter(self._not_taken), None)
        for each in sorted(self._waiting, key=lambda each: each.number):
            amount, admitted = self._waiting[each]
            if admitted.done():
                continue
            if self.held + amount > self.limit and (each is not first or self._being_written):
                return  # nor any behind it, which would keep it waiting forever
            self.held += amount
            each.held = amount
            admitted.set_result(None)


class Reservation:
    """The bytes that one result holds of a budget: first its response, then its content, until it is written."""

    def __init__(self, budget: MemoryBudget, number: int) -> None:
        self.number = number
        self.held = 0
        self._budget = budget
        self._being_written = 0

    async def admit(self, amount: int | None) -> None:
        """Wait until `amount` bytes of content may be read. None reserves as many as the largest recent result has."""
        await self._budget._admit(self, _ROW_BYTES + (int(self._budget._largest) if amount is None else amount))

    def set_size(self, amount: int) -> None:
        """Hold the bytes of the content that was read."""
        self._budget._largest = max(self._budget._largest * _DECAY, amount)
        self._budget._hold(self, _ROW_BYTES + amount)

    def take(self) -> None:
        """Record that all results before this one are taken, and that this one is queued for writing."""
        self._budget._not_taken.pop(self, None)
        self._budget._hold(self, self.held)

    def start_writing(self) -> None:
        """Record that this result is being written, which frees its bytes soon whatever happens to the others."""
        self._being_written = self.held
        self._budget._being_written += self._being_written

    def release(self) -> None:
        """Free all bytes: the result is written, or never will be."""
        self._budget._being_written -= self._being_written
        self._being_written = 0
        self._budget._not_taken.pop(self, None)
        self._budget._hold(self, 0)
