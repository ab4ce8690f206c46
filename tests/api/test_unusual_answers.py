"""Responses that a strict reader would reject, with pages that were paid for."""

import httpx
import pytest

from scrapedo_dagster.api import JobDetails, RetryPolicy, ScrapeDoAsyncAPIClient, UnparsableResponseError


def client_answering(body: bytes) -> ScrapeDoAsyncAPIClient:
    transport = httpx.MockTransport(lambda _request: httpx.Response(200, content=body))
    return ScrapeDoAsyncAPIClient("t", transport=transport, retry=RetryPolicy(attempts=1))


@pytest.mark.parametrize(
    ("content", "read"),
    [(b'"half a pair: \\ud83d"', "half a pair: ?"), (b'"no utf-8: \xff"', "no utf-8: \ufffd")],
)
def test_a_page_with_broken_characters_is_read_with_replacements(content: bytes, read: str) -> None:
    body = b'{"TaskID": "t1", "JobID": "j1", "Status": "success", "Content": %b}' % content
    with client_answering(body) as client:
        assert client.get_task("j1", "t1").content == read


def test_invalid_json_is_unreadable() -> None:
    unreadable = pytest.raises(UnparsableResponseError, match="could not be read")
    with client_answering(b'{"TaskID": "t1"') as client, unreadable:
        client.get_task("j1", "t1")


def test_null_entries_of_a_job_are_left_out() -> None:
    job = JobDetails.model_validate(
        {"JobID": "j", "TaskIDs": ["a", None], "Tasks": [None, {"TaskID": "a", "URL": "https://a.example"}]}
    )
    assert job.task_urls == {"a": "https://a.example"}


def test_listing_that_ignores_the_page_parameter_ends() -> None:
    page = b'{"Jobs": [%b]}' % b",".join(b'{"JobID": "%d"}' % number for number in range(100))
    with client_answering(page) as client:
        assert len(list(client.iter_jobs())) == 100
