from .browser_actions import (
    BrowserAction as BrowserAction,
    ClickAction as ClickAction,
    CustomAction as CustomAction,
    ExecuteAction as ExecuteAction,
    FillAction as FillAction,
    ScreenShotAction as ScreenShotAction,
    ScrollToAction as ScrollToAction,
    ScrollXAction as ScrollXAction,
    ScrollYAction as ScrollYAction,
    WaitAction as WaitAction,
    WaitForRequestCompletionAction as WaitForRequestCompletionAction,
    WaitSelectorAction as WaitSelectorAction,
)
from .client import (
    AsyncScrapeDoAsyncAPIClient as AsyncScrapeDoAsyncAPIClient,
    ScrapeDoAsyncAPIClient as ScrapeDoAsyncAPIClient,
)
from .errors import (
    APIConnectionError as APIConnectionError,
    APIStatusError as APIStatusError,
    AuthenticationError as AuthenticationError,
    BadRequestError as BadRequestError,
    GoneError as GoneError,
    IncompleteListingError as IncompleteListingError,
    JobTimeoutError as JobTimeoutError,
    NotAcceptableError as NotAcceptableError,
    NotFoundError as NotFoundError,
    RateLimitError as RateLimitError,
    ScrapeDoError as ScrapeDoError,
    ServerError as ServerError,
    SubmissionUncertainError as SubmissionUncertainError,
    UnparsableResponseError as UnparsableResponseError,
)
from .plugins import PluginRequest as PluginRequest
from .requests import (
    DEFAULT_BASE_URL as DEFAULT_BASE_URL,
    JobRequest as JobRequest,
    JobsQuery as JobsQuery,
    RenderOptions as RenderOptions,
    ScrapeOptions as ScrapeOptions,
)
from .responses import (
    CancelJobResponse as CancelJobResponse,
    JobCanceledError as JobCanceledError,
    JobCreationResponse as JobCreationResponse,
    JobDetails as JobDetails,
    JobFailedError as JobFailedError,
    JobResult as JobResult,
    JobsListResponse as JobsListResponse,
    TaskCanceledError as TaskCanceledError,
    TaskDetails as TaskDetails,
    TaskFailedError as TaskFailedError,
    UnavailableTask as UnavailableTask,
    UndetailedTaskResponse as UndetailedTaskResponse,
    UserInformation as UserInformation,
    WebhookPayload as WebhookPayload,
)
from .retry import (
    Backoff as Backoff,
    RetryPolicy as RetryPolicy,
)
