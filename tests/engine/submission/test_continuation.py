"""Who submits a partition again: what is gone on with, what is begun anew, and what becomes of the rest."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from scrapedo_dagster.api.requests import ScrapeOptions
from scrapedo_dagster.emulator import Emulator
from scrapedo_dagster.engine.errors import GenerationConflictError
from scrapedo_dagster.engine.ledger.ledger import Ledger
from scrapedo_dagster.engine.ledger.records import PartitionRef
from scrapedo_dagster.engine.ledger.states import State
from scrapedo_dagster.engine.submission.submitter import Submitter
from scrapedo_dagster.engine.targets.validation import validated_entries

Urls = Callable[..., list[str]]
MakeSubmitter = Callable[..., Submitter]

MINE = ScrapeOptions(headers={"Authorization": "mine"})


def submit(worker: Submitter, urls: list[str], *, reuse_open_jobs: bool = True) -> int:
    generation = worker.begin(validated_entries(urls, "raise"), reuse_open_jobs=reuse_open_jobs).number
    worker.submit(generation)
    return generation


def test_options_for_other_targets_do_not_reach_those_that_are_left(
    submitter: MakeSubmitter, emulator: Emulator, urls: Urls, ledger: Ledger
) -> None:
    died = submitter(batch_size=1)
    died.begin(validated_entries(urls(1, 2), "raise"))
    died.advance(ledger.submissions.find()[:1])
    before = ledger.submissions.find()
    with pytest.raises(GenerationConflictError, match=r"1 of 2 batches of generation 1 were not sent yet.*jobs cancel"):
        submit(submitter(options=MINE), urls(3))
    assert [job.targets for job in emulator.jobs()] == [tuple(urls(1))]
    assert ledger.submissions.find() == before
    # The same targets may have better options.
    assert submit(submitter(options=MINE, batch_size=1), urls(1, 2)) == 1
    assert [job.request.get("Headers") for job in emulator.jobs()] == [None, {"Authorization": "mine"}]


def test_where_nothing_was_sent_the_new_list_takes_its_place(
    submitter: MakeSubmitter, emulator: Emulator, urls: Urls, ledger: Ledger, ref: PartitionRef
) -> None:
    submitter().begin(validated_entries(urls(1, 2), "raise"))
    assert submit(submitter(options=MINE), urls(3)) == 2
    assert [job.targets for job in emulator.jobs()] == [tuple(urls(3))]
    [given_up] = ledger.submissions.with_targets(ref, 1)
    assert (given_up.state, given_up.reason) == (State.CANCELED, "replaced by generation 2")


def test_a_run_goes_on_with_its_own_also_where_open_jobs_are_not_to_be_reused(
    submitter: MakeSubmitter, emulator: Emulator, urls: Urls
) -> None:
    for _ in range(2):
        assert submit(submitter(run_id="retried"), urls(1, 2), reuse_open_jobs=False) == 1
    assert len(emulator.jobs()) == 1


def test_open_jobs_that_are_not_to_be_reused_are_canceled(
    submitter: MakeSubmitter, emulator: Emulator, urls: Urls, ledger: Ledger, ref: PartitionRef
) -> None:
    emulator.set_faults({"targets": [{"kind": "linger"}]})
    submit(submitter(), urls(1, 2))
    assert submit(submitter(), urls(1, 2), reuse_open_jobs=False) == 2
    assert [job.canceled for job in emulator.jobs()] == [True, False]
    assert [each.state for each in ledger.submissions.with_targets(ref, 1)] == [State.CANCELED]
    said = submitter.said[-1]  # type: ignore[attr-defined]
    assert "canceled 1 batches of generation 1, which generation 2 replaces." in said


def test_what_could_not_be_canceled_is_said(submitter: MakeSubmitter, emulator: Emulator, urls: Urls) -> None:
    emulator.set_faults(
        {"targets": [{"kind": "linger"}], "calls": [{"endpoint": "cancel_job", "kind": "status", "status": 400}]}
    )
    submit(submitter(), urls(1, 2))
    submit(submitter(), urls(1, 2), reuse_open_jobs=False)
    said = submitter.said[-1]  # type: ignore[attr-defined]
    assert "1 may still be running: cancel them with `scrapedo-dagster jobs cancel`" in said
