"""The access log: one line of JSON a request, without headers, queries and secrets."""

from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import TextIO

from scrapedo_dagster.webhooks.secrets import Secrets

_MAX_LENGTH = 300  # characters of a text; clients choose some of them


@dataclass(frozen=True)
class AccessLog:
    """Writes lines of JSON to a stream."""

    stream: TextIO
    secrets: Secrets

    def write(self, event: str, **values: object) -> None:
        """Write one line with those values that are not None. Long texts are cut.

        A line that cannot be written, for example to a full disk, is dropped: the delivery is stored all the same.
        """
        shown = {name: self._shown(value) for name, value in values.items() if value is not None}
        now = datetime.now(timezone.utc).isoformat(timespec="milliseconds")
        line = json.dumps({"time": now, "event": event, **shown})
        with suppress(OSError):
            self.stream.write(line + "\n")
            self.stream.flush()

    def _shown(self, value: object) -> object:
        if not isinstance(value, str):
            return value
        value = self.secrets.hide(value)  # before it is cut: half a secret would stay
        return value[:_MAX_LENGTH] + "..." if len(value) > _MAX_LENGTH else value


def describe_error(error: BaseException) -> str:
    """Return type and text of an error, without the statement and its values that SQLAlchemy adds."""
    return f"{type(error).__name__}: {getattr(error, 'orig', None) or error}"
