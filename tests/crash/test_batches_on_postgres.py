"""Batches that end at the same time, in a Postgres ledger, where transactions overlap."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest

from scrapedo_dagster.engine.ledger.ledger import Ledger
from scrapedo_dagster.engine.ledger.records import PartitionRef
from scrapedo_dagster.engine.ledger.states import State
from scrapedo_dagster.engine.targets.validation import validated_entries

REF = PartitionRef("a" * 32, "shop", "mon")
BATCHES = 16


@pytest.mark.slow
def test_what_failed_in_batches_that_end_together_is_planned_under_numbers_of_their_own(postgres: str) -> None:
    ledger = Ledger(postgres)
    batches = [validated_entries([f"https://a.b/{n}"], "raise") for n in range(BATCHES)]
    ledger.generations.plan(REF, 1, batches, fingerprint="f", run_id=None)
    for number, planned in enumerate(ledger.submissions.with_targets(REF, 1)):
        claimed = ledger.submissions.claim(planned, run_id=None, fingerprint="f")
        assert claimed is not None
        ledger.submissions.mark_finished(ledger.submissions.mark_submitted(claimed, f"j{number}", ["t"]))
    finished = ledger.submissions.with_targets(REF, 1)
    with ThreadPoolExecutor(BATCHES) as threads:
        list(
            threads.map(
                lambda each: ledger.submissions.mark_collected(each, credits_used=0, succeeded=0, again=each.entries),
                finished,
            )
        )
    after = ledger.submissions.with_targets(REF, 1)
    assert [(each.batch, each.state) for each in after] == [
        *((n, State.COLLECTED) for n in range(BATCHES)),
        *((n, State.PLANNED) for n in range(BATCHES, 2 * BATCHES)),
    ]
    assert {each.entries for each in after[BATCHES:]} == set(batches)
    ledger.close()
