"""From what came back to the error that says it: what was attempted, on what, what came back, what to do."""

from __future__ import annotations

import json

import httpx
from pydantic import ValidationError

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
from scrapedo_dagster.api.steps import Call

_DETAIL = 300  # characters of the service's own words that a message repeats


_BY_STATUS: dict[int, tuple[type[APIStatusError], str]] = {
    400: (BadRequestError, "Correct the named parameter; nothing was charged."),
    401: (
        AuthenticationError,
        (
            "Check the token (SCRAPE_DO_API_KEY), the plan and the credits left in the Scrape.do dashboard; "
            "repeated bad tokens are throttled with 401 too, so wait a minute after correcting it."
        ),
    ),
    404: (NotFoundError, "Check the id and the account; results are kept for 3 days from the job's creation."),
    406: (NotAcceptableError, "It is finished or canceled already: fetch its results instead."),
    410: (GoneError, "The content is lost for good; only a new job for this target brings it back."),
    429: (RateLimitError, "Wait, then send fewer requests at once."),
}
_SERVER_ADVICE = "This is an incident at the service or a gateway before it: try again later."
_OTHER_ADVICE = "This status is not documented: check the base URL and what stands between you and the service."


def failure(
    call: Call, outcome: AttemptOutcome, attempts: int, unreadable: ValidationError | None, *, base_url: str, token: str
) -> ScrapeDoError:
    """The error for no answer, for an answer that is no success, or for a success that was `unreadable`."""

    def quoted(text: str) -> str:
        # The service may quote the token it does not like. Shortened first, a part of it could stay.
        return _shorten(text.replace(token, "***"))

    tried = f"{call.method} {call.path} at {base_url} for {call.subject} failed"
    tried += f" after {attempts} attempts" if attempts > 1 else ""
    if not isinstance(outcome, httpx.Response):
        said = quoted(str(outcome)) or "no further word"
        return APIConnectionError(
            f"{tried}: {type(outcome).__name__}, {said}. Check the base URL and the network, then try again.",
            job_id=call.job_id,
        )
    if unreadable is not None:
        kind = quoted(outcome.headers.get("content-type", "no content type"))
        return UnparsableResponseError(
            f"{tried}: HTTP {outcome.status_code} with a body that could not be read ({kind}, {len(outcome.content)} "
            f"bytes): {_shorten(_reasons(unreadable))}. Check the base URL and what stands between you and the "
            "service, then try again.",
            job_id=call.job_id,
        )
    detail = quoted(_detail(outcome)) or "an empty body"
    error, advice = _BY_STATUS.get(
        outcome.status_code,
        (ServerError, _SERVER_ADVICE) if outcome.status_code >= 500 else (APIStatusError, _OTHER_ADVICE),
    )
    message = f"{tried}: HTTP {outcome.status_code}, {detail}. {advice}"
    if error is RateLimitError:
        return RateLimitError(
            message, status_code=429, detail=detail, job_id=call.job_id, retry_after=retry_after(outcome)
        )
    return error(message, status_code=outcome.status_code, detail=detail, job_id=call.job_id)


def uncertain(call: Call, problem: ScrapeDoError) -> SubmissionUncertainError:
    """The error for a submission of which nobody can tell whether it arrived."""
    return SubmissionUncertainError(
        f"Submitted {call.subject} and cannot tell whether Scrape.do took it. Do not just submit it again, that could "
        "pay twice: list the jobs created since, and compare their targets. "
        f"What came back: {problem}"
    )


def incomplete_listing(page: int, got: int, announced: int) -> IncompleteListingError:
    """The error for a listing that ended early."""
    return IncompleteListingError(
        f"Listing the jobs ended at page {page} with {got} of {announced} announced jobs. "
        "Nothing can be concluded from a part of them: list again."
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
    return line if len(line) <= _DETAIL else f"{line[:_DETAIL]}..."
