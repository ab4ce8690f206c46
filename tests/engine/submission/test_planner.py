"""A generation is planned whole, and the one that it replaces is canceled."""

from __future__ import annotations

from collections.abc import Callable

from scrapedo_dagster.api.requests import ScrapeOptions
from scrapedo_dagster.emulator import Emulator
from scrapedo_dagster.engine.ledger.ledger import Ledger
from scrapedo_dagster.engine.ledger.records import PartitionRef
from scrapedo_dagster.engine.ledger.states import State
from scrapedo_dagster.engine.submission.submitter import Submitter
from scrapedo_dagster.engine.targets.validation import validated_entries
from tests.support.submission import submit

Urls = Callable[..., list[str]]
MakeSubmitter = Callable[..., Submitter]

OTHER = ScrapeOptions(headers={"Authorization": "other"})


def test_a_new_generation_is_above_the_files(submitter: MakeSubmitter, urls: Urls) -> None:
    assert submitter().begin(validated_entries(urls(1), "raise"), above=7).number == 8


def test_open_jobs_of_a_replaced_generation_are_canceled(
    submitter: MakeSubmitter, emulator: Emulator, urls: Urls, ledger: Ledger, ref: PartitionRef
) -> None:
    emulator.set_faults({"targets": [{"kind": "linger"}]})
    submit(submitter(), urls(1, 2))
    assert submit(submitter(), urls(1, 2), reuse_open_jobs=False)[0].generation == 2
    assert [job.canceled for job in emulator.jobs()] == [True, False]
    assert [each.state for each in ledger.submissions.with_targets(ref, 1)] == [State.CANCELED]
    line = submitter.lines[-1]  # type: ignore[attr-defined]
    assert "canceled 1 batches of generation 1, which generation 2 replaces." in line


def test_a_replaced_job_that_could_not_be_canceled_is_logged(
    submitter: MakeSubmitter, emulator: Emulator, urls: Urls
) -> None:
    emulator.set_faults(
        {"targets": [{"kind": "linger"}], "calls": [{"endpoint": "cancel_job", "kind": "status", "status": 400}]}
    )
    submit(submitter(), urls(1, 2))
    submit(submitter(), urls(1, 2), reuse_open_jobs=False)
    line = submitter.lines[-1]  # type: ignore[attr-defined]
    assert "1 may still be running: cancel them with `scrapedo-dagster jobs cancel`" in line


def test_a_generation_of_which_nothing_was_sent_is_replaced(
    submitter: MakeSubmitter, emulator: Emulator, urls: Urls, ledger: Ledger, ref: PartitionRef
) -> None:
    submitter().begin(validated_entries(urls(1, 2), "raise"))
    assert submit(submitter(options=OTHER), urls(3))[0].generation == 2
    assert [job.targets for job in emulator.jobs()] == [tuple(urls(3))]
    [given_up] = ledger.submissions.with_targets(ref, 1)
    assert (given_up.state, given_up.reason) == (State.CANCELED, "replaced by generation 2")
