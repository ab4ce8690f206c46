"""Submissions in a ledger, and the output of the `jobs` commands."""

import json
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import click.testing
import sqlalchemy as sa

from scrapedo_dagster.api import JobRequest, ScrapeDoAsyncAPIClient
from scrapedo_dagster.emulator import Emulator
from scrapedo_dagster.emulator.demo_site import DemoSite
from scrapedo_dagster.engine.ledger.ledger import Ledger
from scrapedo_dagster.engine.ledger.records import PartitionRef, SubmissionWithTargets, account_fingerprint
from scrapedo_dagster.engine.ledger.tables import submissions as table
from scrapedo_dagster.engine.targets.target import Entry

Run = Callable[..., click.testing.Result]


class Planner:
    """Records submissions in the ledger, in any state."""

    def __init__(self, ledger: Ledger, emulator: Emulator, site: DemoSite, token: str) -> None:
        self.ledger, self.emulator, self.site, self.token = ledger, emulator, site, token
        self.account = account_fingerprint(token)

    def planned(
        self, dataset: str = "shop", partition: str | None = None, *, batches: int = 1, account: str | None = None
    ) -> list[SubmissionWithTargets]:
        ref = PartitionRef(account or self.account, dataset, partition)
        generation = self.ledger.generations.newest(ref) + 1
        entries = [
            tuple(Entry(n, f"{self.site.base_url}/{dataset}/{generation}/{batch}/products/{n}") for n in range(3))
            for batch in range(batches)
        ]
        assert self.ledger.generations.plan(ref, generation, entries, fingerprint="f", run_id="run-1")
        return self.ledger.submissions.with_targets(ref, generation)

    def claimed(self, submission: SubmissionWithTargets, *, ago: float = 0.0) -> SubmissionWithTargets:
        claimed = self.ledger.submissions.claim(submission, run_id="run-1", fingerprint="f")
        assert claimed is not None
        engine = self.ledger.engine
        with engine.begin() as connection:
            at = self.ledger.now() - timedelta(seconds=ago)
            connection.execute(sa.update(table).where(table.c.id == claimed.id).values(claimed_at=at))
        return self.ledger.submissions.get(claimed.id)

    def sent(self, submission: SubmissionWithTargets) -> str:
        """Submit its targets without recording the job in the ledger. The tasks never end."""
        self.emulator.set_faults({"targets": [{"kind": "linger"}]})
        with ScrapeDoAsyncAPIClient(self.token, base_url=self.emulator.base_url) as client:
            return client.create_job(JobRequest(targets=list(submission.targets))).job_id

    def submitted(self, submission: SubmissionWithTargets) -> SubmissionWithTargets:
        claimed = self.claimed(submission)
        return self.ledger.submissions.mark_submitted(claimed, self.sent(claimed), ["a", "b", "c"])

    def uncertain(self, submission: SubmissionWithTargets, *, ago: float = 0.0) -> SubmissionWithTargets:
        return self.ledger.submissions.mark_uncertain(self.claimed(submission, ago=ago), "the answer is lost")

    def collected(self, submission: SubmissionWithTargets) -> SubmissionWithTargets:
        job = self.ledger.submissions.mark_finished(self.submitted(submission))
        return self.ledger.submissions.mark_collected(job, credits_used=3, succeeded=2)


def objects(result: click.testing.Result) -> list[dict[str, Any]]:
    return [json.loads(line) for line in result.stdout.splitlines()]
