"""The access log: one line of JSON a request, without a header, a query or a secret."""

from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import TextIO

from scrapedo_dagster.webhooks.secrets import Secrets

_LONGEST = 300  # characters of a value that others have chosen


@dataclass(frozen=True)
class Log:
    """Writes lines to a stream."""

    stream: TextIO
    secrets: Secrets

    def write(self, event: str, **values: object) -> None:
        """One line. Values that are None are left out; long texts are cut.

        A log that cannot be written to, such as one on a full disk, keeps no delivery from being stored.
        """
        told = {name: self._shown(value) for name, value in values.items() if value is not None}
        now = datetime.now(timezone.utc).isoformat(timespec="milliseconds")
        line = json.dumps({"time": now, "event": event, **told})
        with suppress(OSError):
            self.stream.write(line + "\n")
            self.stream.flush()

    def _shown(self, value: object) -> object:
        if not isinstance(value, str):
            return value
        value = self.secrets.hide(value)  # before it is cut: half a secret would be left
        return value[:_LONGEST] + "..." if len(value) > _LONGEST else value


def told(error: BaseException) -> str:
    """An error for the log. SQLAlchemy's own text repeats the statement and its values."""
    return f"{type(error).__name__}: {getattr(error, 'orig', None) or error}"
