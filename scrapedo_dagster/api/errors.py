"""Errors of the Scrape.do Async API.

```
ScrapeDoError
├── APIConnectionError            no response: refused, reset, timed out
├── APIStatusError                an HTTP status that is not a success (status_code, detail)
│   ├── BadRequestError           400
│   ├── AuthenticationError       401
│   ├── NotFoundError             404
│   ├── NotAcceptableError        406
│   ├── GoneError                 410
│   ├── RateLimitError            429 (retry_after)
│   └── ServerError               5xx
├── UnparsableResponseError       a response that could not be read
├── IncompleteListingError        a job listing with fewer jobs than it announced
├── SubmissionUncertainError      a job may or may not have been created: do not resend it
├── JobTimeoutError               a wait reached its deadline; the job continues
├── JobFailedError                the job ended with status `error`
├── JobCanceledError              the job ended with status `canceled`
├── TaskFailedError               the task ended with status `error`
└── TaskCanceledError             the task ended with status `canceled`
```

Every error about a job has its id in `job_id`. No error contains the API token. `transient` and
`may_concern_one_resource` classify errors, so that callers need no lists of classes.
"""

from __future__ import annotations

from typing import Any, ClassVar


class ScrapeDoError(Exception):
    """Base class of all errors of the API clients.

    Attributes:
        job_id: id of the Scrape.do job that the error is about, if known.
        transient: whether the same request may succeed later, without any change.
        may_concern_one_resource: whether the service may fail for this job or task only, and work for all others.
    """

    transient: ClassVar[bool] = False
    may_concern_one_resource: ClassVar[bool] = False

    def __init__(self, message: str, *, job_id: str | None = None) -> None:
        super().__init__(message)
        self.job_id = job_id

    def __reduce__(self) -> tuple[Any, ...]:
        # Subclasses take arguments other than the message, which the default of pickle cannot pass.
        return _rebuild, (type(self), self.args, self.__dict__)


def _rebuild(cls: type[ScrapeDoError], args: tuple[Any, ...], state: dict[str, Any]) -> ScrapeDoError:
    error = cls.__new__(cls)
    error.args = args
    error.__dict__.update(state)
    return error


class APIConnectionError(ScrapeDoError):
    """The service could not be reached or did not respond in time, after all retries."""

    transient = True
    may_concern_one_resource = True


class APIStatusError(ScrapeDoError):
    """The service responded with an HTTP status that is not a success.

    Attributes:
        status_code: the HTTP status.
        detail: shortened error text of the response; the `Error` field of its JSON if there is one.
    """

    def __init__(self, message: str, *, status_code: int, detail: str, job_id: str | None = None) -> None:
        super().__init__(message, job_id=job_id)
        self.status_code = status_code
        self.detail = detail


class BadRequestError(APIStatusError):
    """400: the service rejected the parameters."""


class AuthenticationError(APIStatusError):
    """401: bad token, no credits left, a suspended plan, or a throttle after repeated bad tokens."""


class NotFoundError(APIStatusError):
    """404: no such job or task, or its retention of three days is over."""


class NotAcceptableError(APIStatusError):
    """406: the job cannot be canceled, because it is already finished or canceled."""


class GoneError(APIStatusError):
    """410: the content of this task is no longer available; only a new job can scrape it again."""


class RateLimitError(APIStatusError):
    """429: too many requests.

    Attributes:
        retry_after: seconds to wait, as the service requested, or None if it did not.
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
    """5xx: an incident at the service or at a gateway in front of it."""

    transient = True
    may_concern_one_resource = True


class UnparsableResponseError(ScrapeDoError):
    """A successful response whose body is not the expected JSON."""

    transient = True
    may_concern_one_resource = True


class IncompleteListingError(ScrapeDoError):
    """A job listing ended before it returned all jobs that it announced."""

    transient = True


class SubmissionUncertainError(ScrapeDoError):
    """A job may or may not have been created: the response to its submission is lost or unreadable.

    Resending it could be charged twice. First list the jobs created since, and compare their targets.
    """


class JobTimeoutError(ScrapeDoError):
    """A wait reached its deadline before the job ended. The job continues; its results can still be fetched.

    Attributes:
        last_status: status of the last successful poll, or None if no poll succeeded.
        elapsed: seconds waited.
        attempts: number of polls.
    """

    def __init__(self, job_id: str, *, last_status: str | None, elapsed: float, attempts: int) -> None:
        super().__init__(
            f"Job {job_id} has not ended after {elapsed:.1f} s ({attempts} polls, last status: "
            f"{last_status or 'unknown'}). It continues at Scrape.do, which keeps its results for 3 days: "
            "wait again with its id, or cancel it.",
            job_id=job_id,
        )
        self.last_status = last_status
        self.elapsed = elapsed
        self.attempts = attempts
