"""Everything that can go wrong with the Scrape.do Async API, as one tree.

```
ScrapeDoError
├── APIConnectionError            no answer: refused, reset, timed out
├── APIStatusError                an answer that says no (status_code, detail)
│   ├── BadRequestError           400
│   ├── AuthenticationError       401
│   ├── NotFoundError             404
│   ├── NotAcceptableError        406
│   ├── GoneError                 410
│   ├── RateLimitError            429 (retry_after)
│   └── ServerError               5xx
├── UnparsableResponseError       an answer that could not be read
├── IncompleteListingError        a job listing that gave fewer jobs than it announced
├── SubmissionUncertainError      a job may or may not have been created: never just send it again
├── JobTimeoutError               a wait reached its deadline; the job goes on
├── JobFailedError                the job ended as `error`
├── JobCanceledError              the job ended as `canceled`
├── TaskFailedError               the task ended as `error`
└── TaskCanceledError             the task ended as `canceled`
```

Every error about a job carries its id as `job_id`. No error holds the API token. `transient` and
`may_concern_one_resource` say what a caller can do about an error, so that nobody lists classes.
"""

from __future__ import annotations

from typing import Any, ClassVar


class ScrapeDoError(Exception):
    """Base of every error of this API layer.

    Attributes:
        job_id: the Scrape.do job this is about, where one is known.
        transient: whether the same request may succeed later, without any change.
        may_concern_one_resource: whether the service may fail for this job or task, and answer for all others.
    """

    transient: ClassVar[bool] = False
    may_concern_one_resource: ClassVar[bool] = False

    def __init__(self, message: str, *, job_id: str | None = None) -> None:
        super().__init__(message)
        self.job_id = job_id

    def __reduce__(self) -> tuple[Any, ...]:
        # Subclasses take other arguments than their message, which pickle's default cannot repeat.
        return _rebuild, (type(self), self.args, self.__dict__)


def _rebuild(cls: type[ScrapeDoError], args: tuple[Any, ...], state: dict[str, Any]) -> ScrapeDoError:
    error = cls.__new__(cls)
    error.args = args
    error.__dict__.update(state)
    return error


class APIConnectionError(ScrapeDoError):
    """The service could not be reached, or did not answer in time, also after the retries."""

    transient = True
    may_concern_one_resource = True


class APIStatusError(ScrapeDoError):
    """The service answered with an HTTP status that is not a success.

    Attributes:
        status_code: the HTTP status.
        detail: what the service said, shortened; the `Error` of its envelope where there is one.
    """

    def __init__(self, message: str, *, status_code: int, detail: str, job_id: str | None = None) -> None:
        super().__init__(message, job_id=job_id)
        self.status_code = status_code
        self.detail = detail


class BadRequestError(APIStatusError):
    """400: the service does not accept the parameters."""


class AuthenticationError(APIStatusError):
    """401: bad token, no credits left, a suspended plan, or a throttle after repeated bad tokens."""


class NotFoundError(APIStatusError):
    """404: no such job or task, or its three days of retention are over."""


class NotAcceptableError(APIStatusError):
    """406: the job is finished or canceled already, and cannot be canceled."""


class GoneError(APIStatusError):
    """410: the content of this task is lost for good; only a new job brings it back."""


class RateLimitError(APIStatusError):
    """429: too many requests.

    Attributes:
        retry_after: seconds the service asked to wait, or None where it did not say.
    """

    transient = True

    def __init__(
        self,
        message: str,
        *,
        status_code: int,
        detail: str,
        job_id: str | None = None,
        retry_after: float | None = None,
    ) -> None:
        super().__init__(message, status_code=status_code, detail=detail, job_id=job_id)
        self.retry_after = retry_after


class ServerError(APIStatusError):
    """5xx: an incident at the service or at a gateway before it."""

    transient = True
    may_concern_one_resource = True


class UnparsableResponseError(ScrapeDoError):
    """A success whose body is not the JSON that this endpoint answers with."""

    transient = True
    may_concern_one_resource = True


class IncompleteListingError(ScrapeDoError):
    """A listing ended before it gave all the jobs it had announced."""

    transient = True


class SubmissionUncertainError(ScrapeDoError):
    """A job may or may not have been created: the answer to its submission is lost or unreadable.

    Sending it again could pay twice. List the jobs since the submission and compare their targets first.
    """


class JobTimeoutError(ScrapeDoError):
    """A wait reached its deadline before the job ended. The job goes on and its results can still be fetched.

    Attributes:
        last_status: the last status seen, or None where no poll succeeded.
        elapsed: seconds waited.
        attempts: polls made.
    """

    def __init__(self, job_id: str, *, last_status: str | None, elapsed: float, attempts: int) -> None:
        super().__init__(
            f"Waited {elapsed:.1f} s for job {job_id} ({attempts} polls, last status: "
            f"{last_status or 'never seen'}) and it has not ended. It goes on at Scrape.do and keeps its results "
            "for 3 days: wait again with its id, or cancel it.",
            job_id=job_id,
        )
        self.last_status = last_status
        self.elapsed = elapsed
        self.attempts = attempts
