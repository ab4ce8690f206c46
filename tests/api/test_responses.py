"""Responses are read even if fields are absent, null or unknown."""

from __future__ import annotations

import base64
import json
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from scrapedo_dagster.api import (
    CancelJobResponse,
    JobCanceledError,
    JobCreationResponse,
    JobDetails,
    JobFailedError,
    JobResult,
    JobsListResponse,
    NotFoundError,
    TaskCanceledError,
    TaskDetails,
    TaskFailedError,
    UnavailableTask,
    UndetailedTaskResponse,
    UserInformation,
    WebhookPayload,
)

ZERO_TIME = "0001-01-01T00:00:00Z"
NOT_A_TIME = st.sampled_from([None, "", ZERO_TIME, "0001-01-01T00:00:00+05:00", "soon", True, [], {}])


def go_time(moment: datetime, nanoseconds: str, zone: str) -> str:
    return moment.strftime("%Y-%m-%dT%H:%M:%S") + (f".{nanoseconds}" if nanoseconds else "") + zone


TIMES = st.builds(
    go_time,
    st.datetimes(datetime(1970, 1, 2), datetime(2200, 1, 1)),
    st.text("0123456789", max_size=9),
    st.sampled_from(["Z", "+00:00", "+05:30", "-11:00", "z", ""]),
)
JUNK = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=5), inner, max_size=2),
    max_leaves=5,
)
IDS = st.text("abcdef0123456789-", min_size=1, max_size=12) | st.integers(1, 10**9)
STATUSES = st.sampled_from(["queuing", "queued", "pending", "rotating", "success", "error", "canceled"])
ANY_STATUS = STATUSES | st.text(max_size=8) | st.none()
TEXT = st.none() | st.text(max_size=20)
COUNTS = st.none() | st.integers(-5, 10**12) | st.floats(0, 100) | st.sampled_from(["7", "", "many", [], {}])
HEADERS = st.none() | st.dictionaries(
    st.text(max_size=8), st.text(max_size=8) | st.none() | st.integers() | st.lists(st.text(max_size=4), max_size=3)
)
TIME = TIMES | NOT_A_TIME


def answer(required: dict[str, Any], optional: dict[str, Any]) -> st.SearchStrategy[dict[str, Any]]:
    """A response with any of its optional fields, and with unknown fields."""
    known = st.fixed_dictionaries(required, optional=optional)
    extra = st.dictionaries(st.text("abcXYZ", min_size=3, max_size=6), JUNK, max_size=2)
    return st.builds(lambda more, body: {**more, **body}, extra, known)


SUMMARIES = answer({"TaskID": IDS}, {"URL": TEXT, "Status": ANY_STATUS})
JOBS = answer(
    {"JobID": IDS},
    {
        "TaskIDs": st.none() | st.lists(IDS, max_size=3),
        "Status": ANY_STATUS,
        "StartTime": TIME,
        "EndTime": TIME,
        "AcquiredConcurrency": COUNTS,
        "LimitConcurrency": COUNTS,
        "Canceled": st.none() | st.booleans(),
        "Tasks": st.none() | st.lists(SUMMARIES, max_size=3),
    },
)
TASKS = answer(
    {"TaskID": IDS, "JobID": IDS},
    {
        "URL": TEXT,
        "Status": ANY_STATUS,
        "StartTime": TIME,
        "EndTime": TIME,
        "ExpiresAt": TIME,
        "UpdateTime": TIME,
        "Base64EncodedContent": st.none() | st.booleans(),
        "StatusCode": COUNTS,
        "ResponseHeaders": HEADERS,
        "Scrape.do": HEADERS | st.fixed_dictionaries({"Credits-Used": COUNTS, "Remaining-Credits": COUNTS}),
        "Content": TEXT | st.dictionaries(st.text(max_size=4), st.integers()),
        "ErrorMessage": TEXT,
        "WebhookURL": TEXT,
        "WebhookStatus": TEXT | st.integers(),
        "WebhookRequestTime": TIME,
        "TraceID": TEXT,
    },
)


def read(model: Any, body: dict[str, Any]) -> Any:
    return model.model_validate_json(json.dumps(body))


@given(answer({"JobID": IDS}, {"TaskIDs": st.none() | st.lists(IDS), "Message": TEXT}))
def test_any_response_to_a_submission_is_read(body: dict[str, Any]) -> None:
    created = read(JobCreationResponse, body)
    assert created.job_id == str(body["JobID"])
    assert created.task_ids == tuple(map(str, body.get("TaskIDs") or ()))


@given(JOBS)
def test_any_job_is_read(body: dict[str, Any]) -> None:
    job = read(JobDetails, body)
    assert job.job_id == str(body["JobID"])
    assert [task.task_id for task in job.tasks] == [str(task["TaskID"]) for task in body.get("Tasks") or ()]
    assert {*job.task_ids} <= {*job.task_urls}
    assert job.canceled is (body.get("Canceled") is True)
    assert job.is_terminal is (job.status in {"success", "error", "canceled"})
    assert job.duration is None or isinstance(job.duration, timedelta)
    for time in (job.start_time, job.end_time):
        assert time is None or time.tzinfo is timezone.utc


@given(TASKS)
def test_any_task_is_read(body: dict[str, Any]) -> None:
    task = read(TaskDetails, body)
    assert (task.task_id, task.job_id) == (str(body["TaskID"]), str(body["JobID"]))
    assert task.is_expired in (None, True, False)
    assert (task.is_expired is None) == (task.expires_at is None)
    assert task.duration is None or isinstance(task.duration, timedelta)
    assert task.is_terminal == (task.is_success or task.is_terminal_failure)
    for times in (task.start_time, task.end_time, task.expires_at, task.update_time, task.webhook_request_time):
        assert times is None or times.tzinfo is timezone.utc
    for number in (task.credits_used, task.remaining_credits, task.status_code):
        assert number is None or isinstance(number, int)
    for texts in (task.response_headers, task.scrape_do_metadata):
        assert all(isinstance(value, str) for value in texts.values())
    try:
        content = task.decoded_content()
    except ValueError:
        assert task.base64_encoded_content
    else:
        assert (content is None) == (body.get("Content") is None)
        assert content is None or isinstance(content, bytes)


@given(
    answer(
        {},
        {
            "Jobs": st.none() | st.lists(JOBS, max_size=3),
            "TotalCount": COUNTS,
            "PageSize": COUNTS,
            "PageNumber": COUNTS,
            "TotalPages": COUNTS,
        },
    )
)
def test_any_listing_is_read(body: dict[str, Any]) -> None:
    page = read(JobsListResponse, body)
    assert [job.job_id for job in page.jobs] == [str(job["JobID"]) for job in body.get("Jobs") or ()]
    assert isinstance(page.total_count, int)


@given(
    answer(
        {}, {"TotalConcurrency": COUNTS, "FreeConcurrency": COUNTS, "ActiveJobs": COUNTS, "AvaliableCredits": COUNTS}
    )
)
def test_any_account_is_read(body: dict[str, Any]) -> None:
    account = read(UserInformation, body)
    assert isinstance(account.total_concurrency, int)
    assert account.available_credits is None or isinstance(account.available_credits, int)


@pytest.mark.parametrize("name", ["AvaliableCredits", "AvailableCredits"])
def test_credits_are_read_under_either_spelling(name: str) -> None:
    other = {"AvaliableCredits": "AvailableCredits", "AvailableCredits": "AvaliableCredits"}[name]
    assert read(UserInformation, {name: 41}).available_credits == 41
    assert read(UserInformation, {name: 41, other: None}).available_credits == 41
    assert read(UserInformation, {name: 0}).available_credits == 0


def test_unknown_credits_are_not_no_credits() -> None:
    assert read(UserInformation, {}).available_credits is None
    assert read(UserInformation, {"AvaliableCredits": None}).available_credits is None


@pytest.mark.parametrize(
    ("model", "ids"),
    [
        (JobCreationResponse, ["JobID"]),
        (JobDetails, ["JobID"]),
        (UndetailedTaskResponse, ["TaskID"]),
        (TaskDetails, ["TaskID", "JobID"]),
    ],
)
@pytest.mark.parametrize("value", [None, "", "absent"])
def test_only_a_missing_id_makes_a_response_unreadable(model: Any, ids: list[str], value: str | None) -> None:
    body = dict.fromkeys(ids, "x")
    assert read(model, body)
    for name in ids:
        broken = {**body, name: value}
        if value == "absent":
            del broken[name]
        with pytest.raises(ValidationError, match=name):
            read(model, broken)


def test_empty_responses_without_an_id_are_read() -> None:
    assert read(JobsListResponse, {}).jobs == ()
    assert read(UserInformation, {}).active_jobs == 0


def test_listing_entry_has_defaults_for_what_listings_omit() -> None:
    body = {
        "JobID": "j1",
        "Status": "success",
        "TaskIDs": ["t1"],
        "StartTime": "2026-01-01T00:00:00.123456789Z",
        "EndTime": "2026-01-01T00:00:02Z",
    }
    job = read(JobsListResponse, {"Jobs": [body], "TotalCount": 1}).jobs[0]
    assert (job.acquired_concurrency, job.limit_concurrency, job.canceled, job.tasks) == (0, 0, False, ())
    assert job.task_urls == {"t1": ""}
    assert job.duration == timedelta(seconds=1, microseconds=876_544)


@pytest.mark.parametrize(
    ("text", "utc"),
    [
        ("2026-01-01T05:30:00+05:30", datetime(2026, 1, 1, tzinfo=timezone.utc)),
        ("2025-12-31T13:00:00-11:00", datetime(2026, 1, 1, tzinfo=timezone.utc)),
        ("2026-01-01T00:00:00.999999999Z", datetime(2026, 1, 1, 0, 0, 0, 999_999, tzinfo=timezone.utc)),
        ("2026-01-01T00:00:00", datetime(2026, 1, 1, tzinfo=timezone.utc)),
        (ZERO_TIME, None),
        ("9999-12-31T23:59:59-05:00", None),
        ("not yet", None),
        (None, None),
    ],
)
def test_times_are_in_utc_and_the_zero_time_is_none(text: str | None, utc: datetime | None) -> None:
    job = read(JobDetails, {"JobID": "j1", "StartTime": text})
    assert job.start_time == utc
    assert job.start_time is None or job.start_time.tzinfo is timezone.utc


@given(st.datetimes(datetime(1970, 1, 1), datetime(2200, 1, 1)), st.text("0123456789", min_size=1, max_size=9))
def test_up_to_nine_fraction_digits_are_read_to_the_microsecond(moment: datetime, digits: str) -> None:
    time = read(JobDetails, {"JobID": "j1", "StartTime": go_time(moment, digits, "Z")}).start_time
    assert time == moment.replace(microsecond=int(digits[:6].ljust(6, "0")), tzinfo=timezone.utc)


def test_unknown_status_is_not_terminal_and_known_ones_are_read_in_any_case() -> None:
    assert not read(JobDetails, {"JobID": "j1", "Status": "finalizing"}).is_terminal
    assert read(JobDetails, {"JobID": "j1", "Status": "finalizing"}).status == "finalizing"
    assert read(JobDetails, {"JobID": "j1", "Status": "Success"}).is_success
    assert not read(JobDetails, {"JobID": "j1", "Status": None}).is_terminal


def test_expiry_is_known_or_not() -> None:
    def expiring(at: Any) -> bool | None:
        return read(TaskDetails, {"JobID": "j1", "TaskID": "t1", "ExpiresAt": at}).is_expired

    now = datetime.now(timezone.utc)
    assert expiring((now - timedelta(seconds=1)).isoformat()) is True
    assert expiring((now + timedelta(hours=1)).isoformat()) is False
    assert expiring(None) is expiring(ZERO_TIME) is None


@given(st.binary())
def test_base64_content_is_decoded_to_the_bytes_it_was_made_of(content: bytes) -> None:
    task = read(
        TaskDetails,
        {
            "JobID": "j1",
            "TaskID": "t1",
            "Base64EncodedContent": True,
            "Content": base64.b64encode(content).decode(),
        },
    )
    assert task.decoded_content() == content


@given(st.text())
def test_text_content_is_given_in_utf_8(content: str) -> None:
    task = read(TaskDetails, {"JobID": "j1", "TaskID": "t1", "Base64EncodedContent": False, "Content": content})
    assert task.decoded_content() == content.encode()


def test_base64_broken_into_lines_is_decoded() -> None:
    content = base64.encodebytes(b"x" * 100).decode()
    body = {"JobID": "j1", "TaskID": "t1", "Base64EncodedContent": True, "Content": content}
    assert read(TaskDetails, body).decoded_content() == b"x" * 100


@pytest.mark.parametrize("content", ["%%%", "YWJ", "YW=J", "ü", "-_-_"])
def test_invalid_base64_content_is_an_error_that_names_the_task(content: str) -> None:
    body = {"JobID": "j1", "TaskID": "t1", "URL": "https://a.b/c", "Base64EncodedContent": True, "Content": content}
    with pytest.raises(ValueError, match=r"Task t1 of job j1 .https://a.b/c.*base64"):
        read(TaskDetails, body).decoded_content()


def test_no_content_is_none_and_an_empty_page_is_empty() -> None:
    assert read(TaskDetails, {"JobID": "j1", "TaskID": "t1"}).decoded_content() is None
    assert read(TaskDetails, {"JobID": "j1", "TaskID": "t1", "Content": None}).decoded_content() is None
    assert read(TaskDetails, {"JobID": "j1", "TaskID": "t1", "Content": ""}).decoded_content() == b""


def test_metadata_of_the_service_has_its_own_key() -> None:
    metadata = {"Credits-Used": "5", "Remaining-Credits": 995, "Region": ["eu", "west"]}
    task = read(TaskDetails, {"JobID": "j1", "TaskID": "t1", "Scrape.do": metadata})
    assert task.scrape_do_metadata == {"Credits-Used": "5", "Remaining-Credits": "995", "Region": "eu, west"}
    assert (task.credits_used, task.remaining_credits) == (5, 995)
    assert read(TaskDetails, {"JobID": "j1", "TaskID": "t1"}).credits_used is None


def test_repeated_header_is_joined_as_http_does() -> None:
    headers = {"Set-Cookie": ["a=1", "b=2"], "Age": 5, "Empty": None}
    task = read(TaskDetails, {"JobID": "j1", "TaskID": "t1", "ResponseHeaders": headers})
    assert task.response_headers == {"Set-Cookie": "a=1, b=2", "Age": "5", "Empty": ""}


def test_webhook_deliveries_and_canceled_jobs_are_read_as_their_polled_counterparts() -> None:
    assert WebhookPayload is TaskDetails
    assert CancelJobResponse is JobDetails


@given(TASKS)
def test_task_can_be_stored_and_read_back(body: dict[str, Any]) -> None:
    task = read(TaskDetails, body)
    assert TaskDetails.model_validate_json(task.model_dump_json(by_alias=True)) == task
    assert TaskDetails.model_validate(task.model_dump()) == task


def made(model: Any, status: str) -> Any:
    return read(model, {"JobID": "j1", "TaskID": "t1", "URL": "https://a.b/c", "Status": status})


@pytest.mark.parametrize(
    ("model", "status", "error"),
    [
        (JobDetails, "error", JobFailedError),
        (JobDetails, "canceled", JobCanceledError),
        (TaskDetails, "error", TaskFailedError),
        (TaskDetails, "canceled", TaskCanceledError),
    ],
)
def test_raise_for_status_raises_failed_and_canceled_ends(model: Any, status: str, error: type[Exception]) -> None:
    with pytest.raises(error, match="j1"):
        made(model, status).raise_for_status()
    for harmless in ("success", "pending", "finalizing"):
        made(model, harmless).raise_for_status()


def test_result_raises_its_first_error() -> None:
    job, task = made(JobDetails, "success"), made(TaskDetails, "success")
    gone = UnavailableTask("t2", "https://a.b/d", NotFoundError("gone", status_code=404, detail="gone", job_id="j1"))
    good = JobResult(job, (task,))
    good.raise_for_status()
    assert good.is_success
    for result, error in [
        (JobResult(made(JobDetails, "error"), (task,), (gone,)), JobFailedError),
        (JobResult(job, (made(TaskDetails, "error"),), (gone,)), NotFoundError),
        (JobResult(job, (task, made(TaskDetails, "error"))), TaskFailedError),
        (JobResult(job, (task, made(TaskDetails, "canceled"))), TaskCanceledError),
    ]:
        assert not result.is_success
        with pytest.raises(error):
            result.raise_for_status()
    assert not JobResult(job, (made(TaskDetails, "pending"),)).is_success


@pytest.mark.parametrize("odd", [10**13, -(10**13), "1e300", float("inf"), "many"])
def test_implausible_numbers_are_none(odd: object) -> None:
    task = TaskDetails.model_validate(
        {"TaskID": "t", "JobID": "j", "StatusCode": odd, "Scrape.do": {"Credits-Used": odd}}
    )
    assert (task.status_code, task.credits_used) == (None, None)


@pytest.mark.parametrize(("given", "status"), [(200, 200), ("404", 404), (0, None), (1000, None), (2**31, None)])
def test_invalid_http_status_is_none(given: object, status: int | None) -> None:
    assert TaskDetails.model_validate({"TaskID": "t", "JobID": "j", "StatusCode": given}).status_code == status
