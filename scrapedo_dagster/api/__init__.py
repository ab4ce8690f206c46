"""Clients, requests, responses and errors of the Scrape.do Async API. Usable without Dagster.

```python
from scrapedo_dagster.api import JobRequest, ScrapeDoAsyncAPIClient

with ScrapeDoAsyncAPIClient() as client:  # the token is read from SCRAPE_DO_API_KEY
    result = client.submit_and_wait(JobRequest(targets=["https://example.com"], geo_code="us"))
    for task in result.tasks:
        print(task.url, task.status_code, len(task.decoded_content() or b""))
```
"""

from typing import TYPE_CHECKING

from scrapedo_dagster._lazy import lazy_names
from scrapedo_dagster.api.browser_actions import (
    BrowserAction,
    ClickAction,
    CustomAction,
    ExecuteAction,
    FillAction,
    ScreenShotAction,
    ScrollToAction,
    ScrollXAction,
    ScrollYAction,
    WaitAction,
    WaitForRequestCompletionAction,
    WaitSelectorAction,
)
from scrapedo_dagster.api.errors import (
    APIConnectionError,
    APIStatusError,
    AuthenticationError,
    BadRequestError,
    GoneError,
    IncompleteListingError,
    JobTimeoutError,
    NotAcceptableError,
    NotFoundError,
    RateLimitError,
    ScrapeDoError,
    ServerError,
    SubmissionUncertainError,
    UnparsableResponseError,
)
from scrapedo_dagster.api.plugins import PluginRequest
from scrapedo_dagster.api.requests import DEFAULT_BASE_URL, JobRequest, JobsQuery, RenderOptions, ScrapeOptions

if TYPE_CHECKING:
    from scrapedo_dagster.api.client import AsyncScrapeDoAsyncAPIClient, ScrapeDoAsyncAPIClient
    from scrapedo_dagster.api.responses import (
        CancelJobResponse,
        JobCanceledError,
        JobCreationResponse,
        JobDetails,
        JobFailedError,
        JobResult,
        JobsListResponse,
        TaskCanceledError,
        TaskDetails,
        TaskFailedError,
        UnavailableTask,
        UndetailedTaskResponse,
        UserInformation,
        WebhookPayload,
    )
    from scrapedo_dagster.api.retry import Backoff, RetryPolicy

__all__ = [
    "DEFAULT_BASE_URL",
    "APIConnectionError",
    "APIStatusError",
    "AsyncScrapeDoAsyncAPIClient",
    "AuthenticationError",
    "Backoff",
    "BadRequestError",
    "BrowserAction",
    "CancelJobResponse",
    "ClickAction",
    "CustomAction",
    "ExecuteAction",
    "FillAction",
    "GoneError",
    "IncompleteListingError",
    "JobCanceledError",
    "JobCreationResponse",
    "JobDetails",
    "JobFailedError",
    "JobRequest",
    "JobResult",
    "JobTimeoutError",
    "JobsListResponse",
    "JobsQuery",
    "NotAcceptableError",
    "NotFoundError",
    "PluginRequest",
    "RateLimitError",
    "RenderOptions",
    "RetryPolicy",
    "ScrapeDoAsyncAPIClient",
    "ScrapeDoError",
    "ScrapeOptions",
    "ScreenShotAction",
    "ScrollToAction",
    "ScrollXAction",
    "ScrollYAction",
    "ServerError",
    "SubmissionUncertainError",
    "TaskCanceledError",
    "TaskDetails",
    "TaskFailedError",
    "UnavailableTask",
    "UndetailedTaskResponse",
    "UnparsableResponseError",
    "UserInformation",
    "WaitAction",
    "WaitForRequestCompletionAction",
    "WaitSelectorAction",
    "WebhookPayload",
]

# Imported on first use: options can be declared without loading an HTTP library.
__getattr__ = lazy_names(
    __name__,
    {
        "AsyncScrapeDoAsyncAPIClient": "client",
        "Backoff": "retry",
        "CancelJobResponse": "responses",
        "JobCanceledError": "responses",
        "JobCreationResponse": "responses",
        "JobDetails": "responses",
        "JobFailedError": "responses",
        "JobResult": "responses",
        "JobsListResponse": "responses",
        "TaskCanceledError": "responses",
        "RetryPolicy": "retry",
        "ScrapeDoAsyncAPIClient": "client",
        "TaskDetails": "responses",
        "TaskFailedError": "responses",
        "UnavailableTask": "responses",
        "UndetailedTaskResponse": "responses",
        "UserInformation": "responses",
        "WebhookPayload": "responses",
    },
)


def __dir__() -> list[str]:
    """List the public names, loaded or not."""
    return __all__
