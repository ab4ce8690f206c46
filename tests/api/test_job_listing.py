"""A listing returns every job once, or raises an error."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scrapedo_dagster.api import IncompleteListingError, JobsListResponse, JobsQuery, NotFoundError
from scrapedo_dagster.api.job_listing import JobListing


def page_of(ids: list[str], **more: Any) -> dict[str, Any]:
    return {"Jobs": [{"JobID": job_id, "Status": "success"} for job_id in ids], **more}


def ids(amount: int, start: int = 0) -> list[str]:
    return [f"j{number}" for number in range(start, start + amount)]


def listed(client: Any, **query: Any) -> list[str]:
    return [job.job_id for job in client.iter_jobs(JobsQuery(**query))]


def test_one_page_is_listed_by_its_query(client: Any, server: Any, reply: Any) -> None:
    server.on("GET", "/jobs", reply.json(page_of(["j1"], TotalCount=7, PageSize=1, PageNumber=3, TotalPages=7)))
    page = client.list_jobs(JobsQuery(page=3, page_size=1, status="success", sort="start_time_asc"))
    assert (page.total_count, page.page_size, page.page_number, page.total_pages) == (7, 1, 3, 7)
    assert [job.job_id for job in page.jobs] == ["j1"]
    assert server.received("GET")[0].query == {
        "page": "3",
        "page_size": "1",
        "status": "success",
        "sort": "start_time_asc",
    }


def test_page_has_100_jobs_by_default(client: Any, server: Any, reply: Any) -> None:
    server.on("GET", "/jobs", reply.json(page_of([])))
    assert client.list_jobs().jobs == ()
    assert server.received("GET")[0].query == {"page": "1", "page_size": "100"}


def test_all_pages_are_read_one_after_the_other(client: Any, server: Any, reply: Any) -> None:
    pages = [ids(2), ids(2, 2), ids(1, 4)]
    server.on("GET", "/jobs", *(reply.json(page_of(page, TotalCount=5, TotalPages=3)) for page in pages))
    assert listed(client, page_size=2, status="success", page=2) == ids(5)
    assert [request.query for request in server.received("GET")] == [
        {"page": str(number), "page_size": "2", "status": "success"} for number in (1, 2, 3)
    ]


def test_next_page_is_requested_only_when_needed(client: Any, server: Any, reply: Any) -> None:
    server.on("GET", "/jobs", *(reply.json(page_of(ids(2, n), TotalCount=4, TotalPages=2)) for n in (0, 2)))
    jobs = iter(client.iter_jobs(JobsQuery(page_size=2)))
    assert [next(jobs).job_id, next(jobs).job_id] == ids(2)
    assert server.count("GET") == 1


def test_job_moved_to_the_next_page_by_new_ones_is_returned_once(client: Any, server: Any, reply: Any) -> None:
    pages = [(["j4", "j3"], 4), (["j3", "j2"], 5), (["j1"], 5)]
    server.on("GET", "/jobs", *(reply.json(page_of(page, TotalCount=n, TotalPages=3)) for page, n in pages))
    assert listed(client, page_size=2) == ["j4", "j3", "j2", "j1"]


def test_listing_without_totals_ends_at_its_first_short_page(client: Any, server: Any, reply: Any) -> None:
    server.on("GET", "/jobs", reply.json(page_of(ids(2))), reply.json(page_of(ids(2, 2))), reply.json(page_of([])))
    assert listed(client, page_size=2) == ids(4)


@pytest.mark.parametrize(
    "nothing", [{"Jobs": None}, {"Jobs": None, "TotalCount": 0, "TotalPages": 0}, {}, {"Jobs": []}]
)
def test_account_without_jobs_lists_none(client: Any, server: Any, reply: Any, nothing: dict[str, Any]) -> None:
    server.on("GET", "/jobs", reply.json(nothing))
    assert listed(client) == []
    assert server.count("GET") == 1


@pytest.mark.parametrize(
    "end",
    [{"Jobs": None}, {"Jobs": []}, {"Jobs": None, "TotalCount": 5, "TotalPages": 3}],
    ids=["null", "empty", "still-announced"],
)
def test_listing_that_ends_early_is_an_error_and_not_a_shorter_result(
    client: Any, server: Any, reply: Any, end: dict[str, Any]
) -> None:
    server.on("GET", "/jobs", reply.json(page_of(ids(2), TotalCount=5, TotalPages=3)), reply.json(end))
    with pytest.raises(IncompleteListingError, match=r"page 2 with 2 of 5 announced jobs.*list the jobs again"):
        listed(client, page_size=2)


def test_last_page_that_is_shorter_than_announced_is_an_error(client: Any, server: Any, reply: Any) -> None:
    server.on("GET", "/jobs", *(reply.json(page_of(ids(n), TotalCount=4, TotalPages=2)) for n in (2, 1)))
    with pytest.raises(IncompleteListingError):
        listed(client, page_size=2)


def test_job_moved_to_a_page_already_read_is_an_error(client: Any, server: Any, reply: Any) -> None:
    """j1 leaves the listing between the two pages, so j3 moves to the first."""
    first = reply.json(page_of(["j1", "j2"], TotalCount=4, TotalPages=2))
    second = reply.json(page_of(["j4"], TotalCount=3, TotalPages=2))
    server.on("GET", "/jobs", first, second)
    with pytest.raises(IncompleteListingError, match="3 of 4"):
        listed(client, page_size=2)


def test_page_that_cannot_be_read_is_an_error_and_not_the_end(client: Any, server: Any, reply: Any) -> None:
    server.on("GET", "/jobs", reply.json(page_of(ids(2), TotalCount=4, TotalPages=2)), reply.error(404))
    with pytest.raises(NotFoundError, match="page 2 of the jobs"):
        listed(client, page_size=2)


@given(st.integers(0, 40), st.integers(1, 7), st.booleans(), st.booleans(), st.booleans())
def test_any_listing_is_read_completely(amount: int, size: int, count: bool, pages: bool, null: bool) -> None:
    everything = ids(amount)
    listing, got = JobListing(JobsQuery(page_size=size)), []
    while not listing.done:
        start = (listing.query.page - 1) * size
        body = page_of(everything[start : start + size])
        body |= {"TotalCount": amount} if count else {}
        body |= {"TotalPages": -(-amount // size)} if pages else {}
        body["Jobs"] = body["Jobs"] or (None if null else [])
        got += [job.job_id for job in listing.accept(JobsListResponse.model_validate(body))]
    assert got == everything
    assert listing.query.page <= amount // size + 2


@given(st.integers(2, 30), st.integers(1, 5), st.lists(st.integers(0, 3), min_size=30, max_size=30))
def test_jobs_added_while_reading_hide_no_others(amount: int, size: int, added: list[int]) -> None:
    newest_first = ids(amount)
    listing, got = JobListing(JobsQuery(page_size=size, sort="start_time_desc")), []
    for number in range(1000):
        if listing.done:
            break
        start = (listing.query.page - 1) * size
        total = len(newest_first)
        body = page_of(newest_first[start : start + size], TotalCount=total, TotalPages=-(-total // size))
        got += [job.job_id for job in listing.accept(JobsListResponse.model_validate(body))]
        new = added[number] if number < len(added) and size > 1 else 0
        newest_first = [f"new{number}-{k}" for k in range(min(new, size - 1))] + newest_first
    assert listing.done
    assert [job_id for job_id in got if job_id in set(ids(amount))] == ids(amount)
    assert len(got) == len(set(got))


@given(st.integers(1, 30), st.integers(1, 5), st.data())
def test_jobs_removed_while_reading_hide_no_others_silently(amount: int, size: int, data: st.DataObject) -> None:
    jobs = ids(amount)
    staying = set(jobs)
    listing, got = JobListing(JobsQuery(page_size=size)), []
    try:
        while not listing.done:
            start = (listing.query.page - 1) * size
            body = page_of(jobs[start : start + size], TotalCount=len(jobs), TotalPages=-(-len(jobs) // size))
            got += [job.job_id for job in listing.accept(JobsListResponse.model_validate(body))]
            if jobs and data.draw(st.booleans()):
                gone = data.draw(st.sampled_from(jobs))
                jobs = [job_id for job_id in jobs if job_id != gone]
                staying.discard(gone)
    except IncompleteListingError:
        return
    assert staying <= set(got)
