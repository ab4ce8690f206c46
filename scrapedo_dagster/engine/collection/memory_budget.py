"""How many bytes of results are in memory at once, on their way from the service to a file."""

from __future__ import annotations

import asyncio
import itertools

BYTES_IN_FLIGHT = 16 * 1024 * 1024
_UNKNOWN = 256 * 1024  # bytes that are set aside for the first answers, where they do not tell their length
_FORGOTTEN = 0.98  # of what is set aside for later ones, with each result: a page that was long says little of others
_ROW = 4000  # bytes that a result takes besides its content


class MemoryBudget:
    """Lets answers be read while less than `most` bytes of results are held, from whichever batch they are.

    Results are taken to be written in the order in which they were asked for. So the first that was not taken yet is
    let in once all that were taken are written, also if there is no room for it: all others may be waiting for it, or
    it is larger than `most` by itself.
    """

    def __init__(self, most: int = BYTES_IN_FLIGHT) -> None:
        self.most = most
        self.held = 0
        self._leaving = 0
        self._largest = float(_UNKNOWN)
        self._numbers = itertools.count()
        self._coming: dict[Reservation, None] = {}  # in their order
        self._waiting: dict[Reservation, tuple[int, asyncio.Future[None]]] = {}

    def reserve(self) -> Reservation:
        """The reservation of a result that is asked for next."""
        reservation = Reservation(self, next(self._numbers))
        self._coming[reservation] = None
        return reservation

    async def _admit(self, reservation: Reservation, amount: int) -> None:
        if not self._waiting and self.held - reservation.held + amount <= self.most:
            self._hold(reservation, amount)
            return
        waited_for = asyncio.get_running_loop().create_future()
        self._waiting[reservation] = (amount, waited_for)
        self._hold(reservation, 0)  # what was read before was of no use, if it is asked for again
        try:
            await waited_for
        finally:
            self._waiting.pop(reservation, None)

    def _hold(self, reservation: Reservation, amount: int) -> None:
        self.held += amount - reservation.held
        reservation.held = amount
        if not self._waiting:
            return
        first = next(iter(self._coming), None)
        for each in sorted(self._waiting, key=lambda each: each.number):
            wanted, waited_for = self._waiting[each]
            if waited_for.done():
                continue
            if self.held + wanted > self.most and (each is not first or self._leaving):
                return  # nor those behind it: they would be in its way for ever
            self.held += wanted
            each.held = wanted
            waited_for.set_result(None)


class Reservation:
    """What one result holds of a budget: room for its answer, then itself, until it is written."""

    def __init__(self, budget: MemoryBudget, number: int) -> None:
        self.number = number
        self.held = 0
        self._budget = budget
        self._leaving = 0

    async def admit(self, amount: int | None) -> None:
        """Wait until so many bytes of content may be read; None: about as many as the largest lately had."""
        await self._budget._admit(self, _ROW + (int(self._budget._largest) if amount is None else amount))

    def set_size(self, amount: int) -> None:
        """It came, and has so many bytes of content."""
        self._budget._largest = max(self._budget._largest * _FORGOTTEN, amount)
        self._budget._hold(self, _ROW + amount)

    def take(self) -> None:
        """It is its turn."""
        self._budget._coming.pop(self, None)
        self._budget._hold(self, self.held)

    def leave(self) -> None:
        """It is being written, and takes no room soon, whatever becomes of the others."""
        self._leaving = self.held
        self._budget._leaving += self._leaving

    def release(self) -> None:
        """It is written, or will never be."""
        self._budget._leaving -= self._leaving
        self._leaving = 0
        self._budget._coming.pop(self, None)
        self._budget._hold(self, 0)
