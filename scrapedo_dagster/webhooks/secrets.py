"""The secrets that the service shows us, which are ours: we gave them to it with the job."""

from __future__ import annotations

import hmac
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from urllib.parse import quote

from scrapedo_dagster.engine.errors import WebhookError
from scrapedo_dagster.engine.inbox.address import check_secret

CURRENT = "SCRAPE_DO_WEBHOOK_SECRET"
PREVIOUS = "SCRAPE_DO_WEBHOOK_SECRET_PREVIOUS"


@dataclass(frozen=True)
class Secrets:
    """One or two that are valid now: two while they are exchanged."""

    values: tuple[str, ...] = field(repr=False)

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> Secrets:
        """Those of the variables.

        Raises:
            WebhookError: there is none, or one can be guessed.
        """
        if not environment.get(CURRENT):
            raise WebhookError(f"{CURRENT} is not set: without a secret anybody could deliver. It is the resource's.")
        return cls(
            tuple(check_secret(environment[name], name) for name in (CURRENT, PREVIOUS) if environment.get(name))
        )

    def accept(self, shown: str | None) -> bool:
        """Whether it is one of them. Takes as long for every wrong one."""
        given = _digest(shown or "")
        results = [hmac.compare_digest(_digest(value), given) for value in self.values]
        return any(results)

    def hide(self, text: str) -> str:
        """The text without them, as they are or percent-encoded."""
        for value in self.values:
            encoded = quote(value, safe="")
            text = re.sub(f"{re.escape(value)}|{re.escape(encoded)}|{re.escape(_in_small(encoded))}", "***", text)
        return text


def _in_small(encoded: str) -> str:
    return re.sub("%..", lambda match: match[0].lower(), encoded)


def _digest(text: str) -> bytes:
    return sha256(text.encode()).digest()  # of one length, so that also the length is not told
