"""Read all pages of a job listing."""

from __future__ import annotations

from scrapedo_dagster.api.error_messages import incomplete_listing
from scrapedo_dagster.api.requests import JobsQuery
from scrapedo_dagster.api.responses import JobDetails, JobsListResponse


class JobListing:
    """State of reading a job listing page by page: fetch `query`, pass the page to `accept`, until `done`.

    New jobs move older ones to later pages meanwhile, so the service may list a job twice; `accept` returns it once.
    A listing that ends with fewer jobs than its first page announced is an error, not a shorter result.
    """

    def __init__(self, query: JobsQuery) -> None:
        self.query = query.model_copy(update={"page": 1})
        self.done = False
        self._seen: set[str] = set()
        self._announced: int | None = None

    def accept(self, page: JobsListResponse) -> list[JobDetails]:
        """Return the jobs of this page that were not on an earlier page.

        Raises:
            IncompleteListingError: this is the last page, and jobs that were announced are missing.
        """
        new = [job for job in page.jobs if job.job_id not in self._seen]
        self._seen.update(job.job_id for job in new)
        if page.total_count:
            # Keep the first count, even if a later one is smaller: when a job leaves the listing, the jobs after it
            # move forward, and one of them may move from an unread page to a page that was already read.
            self._announced = self._announced or page.total_count
        more = self.query.page < page.total_pages if page.total_pages else len(page.jobs) >= self.query.page_size
        # A service that ignores `page` would return the same jobs forever.
        self.done = not new or not more
        if self.done and len(self._seen) < (self._announced or 0):
            raise incomplete_listing(self.query.page, len(self._seen), self._announced or 0)
        self.query = self.query.model_copy(update={"page": self.query.page + 1})
        return new
