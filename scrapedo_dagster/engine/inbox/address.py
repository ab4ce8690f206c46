"""Where the service delivers to: the URL and the secret of a receiver, and the key of a submission."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from scrapedo_dagster.api.requests import ScrapeOptions, check_target
from scrapedo_dagster.engine.errors import WebhookError
from scrapedo_dagster.engine.ledger.records import Submission

PATH = "/webhooks/scrape-do/"
"""Below the receiver's URL; the key of the submission comes after it."""

SECRET_HEADER = "X-Scrape-Do-Webhook-Secret"  # noqa: S105 - the header's name

_SHORTEST_SECRET = 24
_SECRET = re.compile(r"[A-Za-z0-9._~+/=-]*")
_KEY = re.compile(r"([0-9a-f]{12})-([1-9][0-9]{0,8})")
_WITHOUT_SECRETS = re.compile(r"(?<=//)[^/?#]*@|[?#].*", re.DOTALL)
_OF_ACCOUNT = 12  # characters of its fingerprint


def check_secret(secret: str, name: str) -> str:
    """The secret, if it is hard to guess and fits into a header.

    Raises:
        WebhookError: it is not; the message calls it `name`.
    """
    if len(secret) < _SHORTEST_SECRET or not _SECRET.fullmatch(secret):
        raise WebhookError(
            f"{name} must have {_SHORTEST_SECRET} or more letters, digits and -._~+/= only; this one has {len(secret)} "
            "characters. Make one with `openssl rand -hex 32`."
        )
    return secret


def submission_key(submission: Submission) -> str:
    """What the URL calls a submission, in all its attempts. It is no secret."""
    return f"{submission.ref.account[:_OF_ACCOUNT]}-{submission.id}"


@dataclass(frozen=True)
class ParsedKey:
    """Whose submission a key is: the first characters of the account's fingerprint, and the id in the ledger."""

    account: str
    submission_id: int

    @classmethod
    def of(cls, key: str) -> ParsedKey | None:
        """The parts of a key, or None for a text that is none."""
        match = _KEY.fullmatch(key)
        return cls(match[1], int(match[2])) if match else None


@dataclass(frozen=True)
class Webhook:
    """A receiver of ours: the URL that Scrape.do reaches it at, without our path, and the secret it knows us by."""

    url: str
    secret: str = field(repr=False)

    def __post_init__(self) -> None:
        """Refuse what no job could be submitted with."""
        shown = _WITHOUT_SECRETS.sub("", self.url)
        try:
            check_target(self.url)
        except ValueError as error:
            raise WebhookError(f"webhook_url: {str(error).replace(repr(self.url), repr(shown))}") from None
        if "?" in self.url or "#" in self.url:
            raise WebhookError(f"webhook_url is {shown!r} and more; our path is added, so it cannot have a ? or a #.")
        check_secret(self.secret, "webhook_secret")

    def added_to(self, options: ScrapeOptions, submission: Submission) -> ScrapeOptions:
        """The options of the submission's job, which is then delivered here."""
        added = {
            "webhook_url": self.url.rstrip("/") + PATH + submission_key(submission),
            "webhook_headers": {SECRET_HEADER: self.secret},
        }
        return options.model_copy(update=added)
