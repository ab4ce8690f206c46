"""The secrets that deliveries are authenticated by. Jobs carry them to Scrape.do, which sends them back."""

from __future__ import annotations

import hmac
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from urllib.parse import quote

from scrapedo_dagster.engine.errors import WebhookError
from scrapedo_dagster.engine.webhook_address import check_secret

CURRENT = "SCRAPE_DO_WEBHOOK_SECRET"
PREVIOUS = "SCRAPE_DO_WEBHOOK_SECRET_PREVIOUS"


@dataclass(frozen=True)
class Secrets:
    """The valid secrets: one, or two while they are exchanged."""

    values: tuple[str, ...] = field(repr=False)

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> Secrets:
        """Read the secrets from environment variables.

        Raises:
            WebhookError: the current one is missing, or one of them can be guessed.
        """
        if not environment.get(CURRENT):
            raise WebhookError(
                f"{CURRENT} is not set, and without a secret anybody could deliver. Set it to the webhook_secret of "
                "the resource."
            )
        return cls(
            tuple(check_secret(environment[name], name) for name in (CURRENT, PREVIOUS) if environment.get(name))
        )

    def accept(self, given: str | None) -> bool:
        """Return whether `given` is valid, in the same time for every wrong one."""
        digest = _digest(given or "")
        results = [hmac.compare_digest(_digest(value), digest) for value in self.values]
        return any(results)

    def hide(self, text: str) -> str:
        """Return the text with asterisks for the secrets, also where these are percent-encoded."""
        for value in self.values:
            encoded = quote(value, safe="")
            lower = re.sub("%..", lambda match: match[0].lower(), encoded)
            text = re.sub("|".join(map(re.escape, (value, encoded, lower))), "***", text)
        return text


def _digest(text: str) -> bytes:
    return sha256(text.encode()).digest()  # all of one length, so that the time does not depend on that of the secret
