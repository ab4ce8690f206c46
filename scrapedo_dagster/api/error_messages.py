"""Build errors from failed calls: what was attempted, on which object, what came back, what to do."""

from __future__ import annotations

import json

import httpx
from pydantic import ValidationError

from scrapedo_dagster.api.commands import Call
from scrapedo_dagster.api.errors import (
    APIConnectionError,
    APIStatusError,
    AuthenticationError,
    BadRequestError,
    GoneError,
    IncompleteListingError,
    NotAcceptableError,
    NotFoundError,
    RateLimitError,
    ScrapeDoError,
    ServerError,
    SubmissionUncertainError,
    UnparsableResponseError,
)
from scrapedo_dagster.api.retry import AttemptOutcome, retry_after

_MAX_DETAIL = 300  # characters of the response that a message quotes

_BY_STATUS: dict[int, tuple[type[APIStatusError], str]] = {
    400: (BadRequestError, "Correct the named parameter; nothing was charged."),
    401: (
        AuthenticationError,
        (
            "Check the token (SCRAPE_DO_API_KEY), the plan and the credits left in the Scrape.do dashboard; "
            "repeated bad tokens are throttled with 401 too: after correcting the token, wait a minute."
        ),
    ),
    404: (NotFoundError, "Check the id and the account; results are kept for 3 days from the job's creation."),
    406: (NotAcceptableError, "It is already finished or canceled: fetch its results instead."),
    410: (GoneError, "The content is no longer available: submit the target again if you still need it."),
    429: (RateLimitError, "Wait, then send fewer requests at once."),
}
_SERVER_ADVICE = "This is an incident at the service or at a gateway in front of it: try again later."
_OTHER_ADVICE = "This status is not documented: check the base URL, and proxies between you and the service."


def call_failed(
    call: Call, outcome: AttemptOutcome, attempts: int, unreadable: ValidationError | None, *, base_url: str, token: str
) -> ScrapeDoError:
    """Return the error for a call that failed.

    Args:
        call: the failed call.
        outcome: the last response, or the error that was raised instead.
        attempts: how often the call was sent.
        unreadable: why the body of a successful response could not be read, if that is the failure.
        base_url: URL of the service, for the message.
        token: API token, which is removed from the message.
    """

    def quoted(text: str) -> str:
        # The service may quote a token that it rejects. Replace it before shortening, which could cut it in half.
        return _shorten(text.replace(token, "***"))

    failed = f"{call.method} {call.path} at {base_url} for {call.subject} failed"
    failed += f" after {attempts} attempts" if attempts > 1 else ""
    if not isinstance(outcome, httpx.Response):
        reason = quoted(str(outcome)) or "no details"
        return APIConnectionError(
            f"{failed}: {type(outcome).__name__}, {reason}. Check the base URL and the network, then try again.",
            job_id=call.job_id,
        )
    if unreadable is not None:
        kind = quoted(outcome.headers.get("content-type", "no content type"))
        return UnparsableResponseError(
            f"{failed}: HTTP {outcome.status_code} with a body that could not be read ({kind}, {len(outcome.content)} "
            f"bytes): {_shorten(_reasons(unreadable))}. Check the base URL, and proxies between you and the service, "
            "then try again.",
            job_id=call.job_id,
        )
    detail = quoted(_detail(outcome)) or "an empty body"
    error, advice = _BY_STATUS.get(
        outcome.status_code,
        (ServerError, _SERVER_ADVICE) if outcome.status_code >= 500 else (APIStatusError, _OTHER_ADVICE),
    )
    message = f"{failed}: HTTP {outcome.status_code}, {detail}. {advice}"
    if error is RateLimitError:
        return RateLimitError(
            message, status_code=429, detail=detail, job_id=call.job_id, retry_after=retry_after(outcome)
        )
    return error(message, status_code=outcome.status_code, detail=detail, job_id=call.job_id)


def submission_uncertain(call: Call, problem: ScrapeDoError) -> SubmissionUncertainError:
    """Return the error for a submission that may or may not have reached the service."""
    return SubmissionUncertainError(
        f"Submission of {call.subject}: it is unknown whether Scrape.do created the job. Do not resend it, which could "
        f"be charged twice: list the jobs created since, and compare their targets. Cause: {problem}"
    )


def incomplete_listing(page: int, received: int, announced: int) -> IncompleteListingError:
    """Return the error for a job listing that ended early."""
    return IncompleteListingError(
        f"The job listing ended at page {page} with {received} of {announced} announced jobs. "
        "An incomplete listing proves nothing: list the jobs again."
    )


def _reasons(error: ValidationError) -> str:
    first = error.errors(include_url=False, include_input=False)[:3]
    return "; ".join(f"{'.'.join(map(str, item['loc'])) or 'body'}: {item['msg']}" for item in first)


def _detail(response: httpx.Response) -> str:
    try:
        envelope = json.loads(response.content)
    except ValueError:
        envelope = None
    if isinstance(envelope, dict) and envelope.get("Error"):
        return str(envelope["Error"])
    if "html" in response.headers.get("content-type", ""):
        return f"an HTML page of {len(response.content)} bytes instead of JSON"
    return response.text


def _shorten(text: str) -> str:
    line = " ".join(text.split()).rstrip(".")
    return line if len(line) <= _MAX_DETAIL else f"{line[:_MAX_DETAIL]}..."
