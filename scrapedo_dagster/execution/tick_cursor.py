"""The cursor of the completion sensor: how far its ticks have polled. Everything else is in the ledger."""

from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime

_VERSION = 1


@dataclass(frozen=True)
class TickCursor:
    """How far the ticks have polled.

    Attributes:
        polled_through: id of the submission that was polled last. The next tick begins with the others.
        all_polled_at: when all jobs were polled last.
    """

    polled_through: int = 0
    all_polled_at: datetime | None = None

    @classmethod
    def parse(cls, text: str | None) -> TickCursor:
        """Read a cursor. One that cannot be read, or is of another version, starts from the beginning."""
        with suppress(ValueError, TypeError, KeyError, OverflowError):
            values = json.loads(text or "")
            if values["version"] == _VERSION:
                at = values["all_polled_at"]
                return cls(int(values["polled_through"]), at and datetime.fromisoformat(at))
        return cls()

    def serialize(self) -> str:
        """Write the cursor as text."""
        at = self.all_polled_at and self.all_polled_at.isoformat()
        return json.dumps({"version": _VERSION, "polled_through": self.polled_through, "all_polled_at": at})
