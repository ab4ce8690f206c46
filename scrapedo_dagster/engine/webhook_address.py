"""The address that Scrape.do delivers to: the receiver's URL, its secret, and the key of a submission."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from scrapedo_dagster.api.requests import ScrapeOptions, check_service_url, redact_url
from scrapedo_dagster.engine.errors import WebhookError
from scrapedo_dagster.engine.ledger.records import Submission

PATH = "/webhooks/scrape-do/"
"""The path of the receiver. The key of a submission follows it."""

SECRET_HEADER = "X-Scrape-Do-Webhook-Secret"  # noqa: S105 - the header's name

MIN_SECRET_LENGTH = 24

_SECRET = re.compile(r"[A-Za-z0-9._~+/=-]*")
_KEY = re.compile(r"([0-9a-f]{12})-([1-9][0-9]{0,8})")
_ACCOUNT_PREFIX = 12  # characters of the account's fingerprint


def check_secret(secret: str, name: str) -> str:
    """Return the secret if it is hard to guess and fits into a header.

    Raises:
        WebhookError: it is too short or has other characters. The message names it `name` and does not repeat it.
    """
    if len(secret) < MIN_SECRET_LENGTH or not _SECRET.fullmatch(secret):
        raise WebhookError(
            f"{name} must have {MIN_SECRET_LENGTH} or more letters, digits and -._~+/= only; this one has "
            f"{len(secret)} characters. Create one with `openssl rand -hex 32`."
        )
    return secret


def submission_key(submission: Submission) -> str:
    """Return the name of a submission in the URL, the same for all its attempts. It is not secret."""
    return f"{submission.ref.account[:_ACCOUNT_PREFIX]}-{submission.id}"


@dataclass(frozen=True)
class ParsedKey:
    """The parts of a submission's key: the start of the account's fingerprint, and the id in the ledger."""

    account: str
    submission_id: int

    @classmethod
    def parse(cls, key: str) -> ParsedKey | None:
        """Return the parts of a key, or None if the text is not a key."""
        match = _KEY.fullmatch(key)
        return cls(match[1], int(match[2])) if match else None


@dataclass(frozen=True)
class Webhook:
    """A receiver, as the jobs that deliver to it see it.

    Attributes:
        url: where Scrape.do reaches the receiver, without `PATH`.
        secret: what the receiver authenticates deliveries by.

    Raises:
        WebhookError: no job can be submitted with this URL or secret.
    """

    url: str
    secret: str = field(repr=False)

    def __post_init__(self) -> None:
        try:
            check_service_url(self.url)
        except ValueError as error:
            raise WebhookError(f"webhook_url: {error}") from None
        if "?" in self.url or "#" in self.url:
            raise WebhookError(
                f"webhook_url {redact_url(self.url)!r} has a query or a fragment. The path of the receiver is appended "
                "to it: remove the ? or # and what follows it."
            )
        check_secret(self.secret, "webhook_secret")

    def add_to(self, options: ScrapeOptions, submission: Submission) -> ScrapeOptions:
        """Return the options with this webhook, for the job of a submission."""
        webhook = {
            "webhook_url": self.url.rstrip("/") + PATH + submission_key(submission),
            "webhook_headers": {SECRET_HEADER: self.secret},
        }
        return options.model_copy(update=webhook)
