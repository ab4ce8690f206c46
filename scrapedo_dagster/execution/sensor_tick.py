"""One tick of the completion sensor: clean up after dead runs, poll open jobs, and request collecting runs."""

from __future__ import annotations

from collections.abc import Mapping

import dagster as dg

from scrapedo_dagster.api import ScrapeDoAsyncAPIClient, ScrapeDoError
from scrapedo_dagster.dataset import Dataset
from scrapedo_dagster.engine.clock import SYSTEM_CLOCK, Clock
from scrapedo_dagster.engine.ledger.records import Submission
from scrapedo_dagster.engine.ledger.states import State
from scrapedo_dagster.engine.polling.order import is_near_expiry, poll_order
from scrapedo_dagster.engine.polling.poller import JobPoller
from scrapedo_dagster.execution.collection_requests import request_collecting_runs
from scrapedo_dagster.execution.run_activity import RunActivity
from scrapedo_dagster.execution.tick_cleanup import cancel_unwanted_jobs, reconcile_lost_submissions
from scrapedo_dagster.execution.tick_cursor import TickCursor
from scrapedo_dagster.execution.tick_session import TickLimits, TickSession, Unconfirmed
from scrapedo_dagster.resource import ScrapeDoResource


def run_tick(
    context: dg.SensorEvaluationContext,
    scrape_do: ScrapeDoResource,
    datasets: Mapping[str, Dataset],
    limits: TickLimits,
    clock: Clock = SYSTEM_CLOCK,
) -> dg.SensorResult:
    """Run one tick, for datasets by their names in the ledger."""
    session = TickSession(datasets, scrape_do, context.instance, context.log, limits, clock, clock.monotonic())
    cursor = TickCursor.parse(context.cursor)
    runs = RunActivity(context.instance)
    with scrape_do.short_timeout_client(limits.request_timeout) as client:
        unconfirmed = session.unconfirmed()
        cancel_unwanted_jobs(session, client, unconfirmed, runs)
        if unconfirmed:
            reconcile_lost_submissions(session, client, unconfirmed, runs)
            cursor = _poll(session, client, unconfirmed, cursor)
    # Runs are read before the ledger: one that ends in between still counts as active, and the next tick takes over.
    runs = RunActivity(context.instance)
    unconfirmed = session.unconfirmed()
    requests = request_collecting_runs(session, unconfirmed, runs)
    waiting = sum(each.state == State.SUBMITTED for batches in unconfirmed.values() for each in batches)
    return dg.SensorResult(
        run_requests=requests,
        cursor=cursor.serialize(),
        skip_reason=None if requests else f"Nothing to collect; {waiting} jobs are open.",
    )


def _poll(
    session: TickSession, client: ScrapeDoAsyncAPIClient, unconfirmed: Unconfirmed, cursor: TickCursor
) -> TickCursor:
    """Poll open jobs until the deadline. Returns how far that was, so that the next tick begins with the others."""
    now = session.ledger.now()
    submissions = [each for batches in unconfirmed.values() for each in batches]
    ordered = poll_order(submissions, cursor.polled_through, now)
    polled: list[Submission] = []
    ended: list[Submission] = []
    poller = JobPoller(
        session.ledger,
        client,
        session.scrape_do.inbox,
        session.log.warning,
        polled_at=cursor.all_polled_at,
        clock=session.clock,
    )
    try:
        ended = poller.poll(ordered, on_polled=polled.append, deadline=session.deadline)
    except ScrapeDoError as error:
        session.log.warning(f"Scrape.do could not be asked for open jobs ({error}); the next tick asks again.")
    if ordered:
        near_expiry = sum(is_near_expiry(each, now) for each in ordered)
        session.log.info(
            f"Polled {len(polled)} of {len(ordered)} open jobs: {len(ended)} have ended, {near_expiry} are near expiry."
            + (" The next tick polls the others." if len(polled) < len(ordered) else "")
        )
    return TickCursor(polled[-1].id if polled else cursor.polled_through, poller.polled_at)
