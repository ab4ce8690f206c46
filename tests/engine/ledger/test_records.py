"""Records of the ledger cannot be changed, and read well in messages."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from scrapedo_dagster.engine.ledger.records import PartitionRef, SubmissionWithTargets
from scrapedo_dagster.engine.ledger.states import State

Plan = Callable[..., list[SubmissionWithTargets]]


def test_a_partition_reads_well_in_messages() -> None:
    assert str(PartitionRef("a", "shop", None)) == "shop"
    assert str(PartitionRef("a", "shop", "null")) == "shop, partition 'null'"


def test_a_submission_is_immutable(plan: Plan) -> None:
    [submission] = plan(["https://a.example/"])
    assert replace(submission) == submission
    with pytest.raises(AttributeError):
        submission.state = State.COLLECTED  # type: ignore[misc]
