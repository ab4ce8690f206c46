"""For an ad-hoc partition whose run died before all of it was sent; see `ops_orders`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import dagster as dg

from scrapedo_dagster.engine.ledger.records import SubmissionWithTargets
from scrapedo_dagster.engine.submission.submitter import Submitter


@dataclass(eq=False)
class CollectOnlySubmitter(Submitter):
    """Of a partition whose options are not all known: what was sent can be collected, and nothing more be sent."""

    unknown: tuple[str, ...] = ()

    def advance(self, unsent: Sequence[SubmissionWithTargets]) -> bool:
        """Refuse.

        Raises:
            dg.Failure: always; it names the run that knows the options.
        """
        raise dg.Failure(
            f"{len(unsent)} batches of {self.ref} were not sent before their run ended. They "
            f"cannot be sent here, since what they were to be sent with is not recorded: {', '.join(self.unknown)}. "
            f"Re-execute run {unsent[0].run_id}, or launch one with its config and with "
            f"partition_key={self.ref.partition!r}. It sends them, and nothing twice. What was sent is kept.",
            allow_retries=False,
        )
