"""All batches of a generation become jobs, each once and in its turn."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from scrapedo_dagster.emulator import Emulator
from scrapedo_dagster.engine.errors import NeverArrivesError
from scrapedo_dagster.engine.ledger.states import State
from scrapedo_dagster.engine.submission.settings import Limits
from scrapedo_dagster.engine.submission.submitter import Submitter
from scrapedo_dagster.engine.targets.validation import validated_entries
from tests.support.submission import once_each, submit

Urls = Callable[..., list[str]]
MakeSubmitter = Callable[..., Submitter]


def test_each_batch_is_a_job(submitter: MakeSubmitter, emulator: Emulator, urls: Urls) -> None:
    submissions = submit(submitter(batch_size=2), urls(1, 2, 3, 4, 5))
    assert [job.targets for job in emulator.jobs()] == [tuple(urls(1, 2)), tuple(urls(3, 4)), tuple(urls(5))]
    assert [each.job_id for each in submissions] == [job.job_id for job in emulator.jobs()]
    assert {each.state for each in submissions} == {State.SUBMITTED}


def test_waiting_for_a_slot_is_logged_once(submitter: MakeSubmitter, emulator: Emulator, urls: Urls) -> None:
    emulator.set_faults({"targets": [{"kind": "linger", "seconds": 200, "match": "*products/1"}]})  # 0.4 s
    worker = submitter(batch_size=1, limits=Limits(max_open_jobs=1))
    submit(worker, urls(1, 2))
    assert once_each(emulator, urls(1, 2))
    [line] = submitter.lines  # type: ignore[attr-defined]
    assert "1 batches wait to be submitted: the account has too many other open jobs" in line


def test_without_a_slot_each_open_job_is_polled_once(submitter: MakeSubmitter, emulator: Emulator, urls: Urls) -> None:
    emulator.set_faults({"targets": [{"kind": "linger"}]})
    worker = submitter(batch_size=1, limits=Limits(max_open_jobs=2))
    worker.begin(validated_entries(urls(*range(1, 12)), "raise"))
    assert worker.advance(worker.ledger.submissions.with_targets(worker.ref, 1))
    assert len(emulator.jobs()) == 2
    assert emulator.requests().get("get_job", 0) == 2


def test_a_batch_that_never_arrives_ends_the_run(
    submitter: MakeSubmitter, emulator: Emulator, urls: Urls, ledger: Any
) -> None:
    emulator.set_faults({"calls": [{"endpoint": "create_job", "kind": "drop", "when": "before"}]})
    with pytest.raises(NeverArrivesError, match="shop, partition 'mon', batch 0: sent 5 times, and it never arrived"):
        submit(submitter(), urls(1))
    assert [each.state for each in ledger.submissions.find()] == [State.PLANNED]
    emulator.set_faults({})
    submit(submitter(), urls(1))
    assert once_each(emulator, urls(1))
