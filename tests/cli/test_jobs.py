"""`scrapedo-dagster jobs` reads the ledger and mends it, and never says more than it knows."""

import json
import os
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import click.testing
import pytest
import sqlalchemy as sa

from scrapedo_dagster.api import JobRequest, ScrapeDoAsyncAPIClient
from scrapedo_dagster.cli.main import main
from scrapedo_dagster.emulator import Emulator
from scrapedo_dagster.emulator.demo_site import DemoSite
from scrapedo_dagster.engine.ledger.ledger import Ledger
from scrapedo_dagster.engine.ledger.migrations.names import VERSION_TABLE
from scrapedo_dagster.engine.ledger.records import PartitionRef, SubmissionWithTargets, account_fingerprint
from scrapedo_dagster.engine.ledger.states import State
from scrapedo_dagster.engine.ledger.tables import submissions as table
from scrapedo_dagster.engine.targets.target import Entry


@pytest.fixture
def emulator(token: str) -> Iterator[Emulator]:
    """Slow enough that a job is seen before it ends."""
    with Emulator(token=token, speed=50) as emulator:
        yield emulator


Run = Callable[..., click.testing.Result]


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "home"


@pytest.fixture
def ledger(home: Path) -> Ledger:
    """The default ledger of a deployment, with its schema."""
    ledger = Ledger(f"sqlite:///{home / 'scrapedo' / 'ledger.db'}")
    ledger.submissions.find()
    return ledger


@pytest.fixture
def run(emulator: Emulator, token: str, home: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    monkeypatch.setenv("DAGSTER_HOME", str(home))
    monkeypatch.setenv("SCRAPE_DO_API_KEY", token)
    monkeypatch.setenv("SCRAPE_DO_BASE_URL", emulator.base_url)
    monkeypatch.delenv("SCRAPE_DO_LEDGER_URL", raising=False)

    def run(*arguments: str) -> click.testing.Result:
        result = click.testing.CliRunner().invoke(main, ["jobs", *arguments])
        # Whatever happens, it is a sentence and no traceback, and no secret.
        assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
        assert token not in result.output
        return result

    return run


class Planner:
    """Puts submissions into the ledger, in the state that a test is about."""

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
        """Submit its targets, and leave the ledger as it is. They never end by themselves."""
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


@pytest.fixture
def plan(ledger: Ledger, emulator: Emulator, site: DemoSite, token: str) -> Planner:
    return Planner(ledger, emulator, site, token)


def objects(result: click.testing.Result) -> list[dict[str, Any]]:
    return [json.loads(line) for line in result.stdout.splitlines()]


# --- list and show


def test_list_shows_what_is_open_and_with_filters_all_else(run: Run, plan: Planner) -> None:
    done = plan.collected(plan.planned("shop", "2026-01-01")[0])
    waiting = plan.submitted(plan.planned("shop", "2026-01-02")[0])
    other = plan.planned("news")[0]
    gone = plan.ledger.submissions.mark_canceled(plan.planned("news", "x")[0], "not wanted")

    def ids(*arguments: str) -> list[int]:
        result = run("list", "--json", *arguments)
        assert result.exit_code == 0
        return [each["id"] for each in objects(result)]

    assert ids() == [waiting.id, other.id]
    assert ids("--state", "all") == [done.id, waiting.id, other.id, gone.id]
    assert ids("--state", "collected", "--state", "canceled") == [done.id, gone.id]
    assert ids("--state", "all", "--dataset", "shop") == [done.id, waiting.id]
    assert ids("--dataset", "shop", "--partition", "2026-01-02") == [waiting.id]
    assert ids("--partition", "2026-01-01") == []
    shown = run("list").output
    assert str(waiting.job_id) in shown
    assert str(done.job_id) not in shown
    assert run("list", "--dataset", "none").output == "No submissions (open).\n"


def test_show_tells_all_about_a_submission_in_words_and_for_scripts(run: Run, plan: Planner) -> None:
    done = plan.collected(plan.planned("shop", "2026-01-01")[0])
    [told] = objects(run("show", str(done.id), "--json"))
    assert set(told) == {
        *("id", "account", "dataset", "partition", "generation", "batch", "attempt", "state", "targets", "rejected"),
        *("succeeded", "credits", "job_id", "run_id", "reason"),
        *("planned_at", "claimed_at", "submitted_at", "finished_at", "collected_at", "expires_at"),
    }
    assert (told["dataset"], told["partition"], told["state"]) == ("shop", "2026-01-01", "collected")
    assert (told["targets"], told["rejected"], told["succeeded"], told["credits"]) == (3, 0, 2, 3)
    assert (told["job_id"], told["run_id"], told["account"]) == (done.job_id, "run-1", plan.account)
    assert datetime.fromisoformat(told["collected_at"]) - datetime.now().astimezone() < timedelta(minutes=1)
    shown = dict(line.split(None, 1) for line in run("show", str(done.id)).output.splitlines())
    assert shown["job_id"] == done.job_id
    assert shown["reason"] == "-"
    assert set(shown) == set(told)


def test_show_of_an_unknown_submission_says_how_to_find_one(run: Run, plan: Planner) -> None:
    result = run("show", "77")
    assert result.exit_code == 1
    assert "no submission 77" in result.output
    assert "jobs list" in result.output


# --- cancel


def test_cancel_cancels_at_scrape_do_and_in_the_ledger(run: Run, plan: Planner) -> None:
    one, two = (plan.submitted(each) for each in plan.planned(batches=2))
    result = run("cancel", str(one.id), str(two.id))
    assert result.exit_code == 0
    assert [job.canceled for job in plan.emulator.jobs()] == [True, True]
    assert [each.state for each in plan.ledger.submissions.find()] == [State.CANCELED] * 2
    assert f"job {one.job_id} is canceled" in result.output


def test_cancel_of_a_partition_leaves_the_others(run: Run, plan: Planner) -> None:
    wanted = plan.submitted(plan.planned("shop", "b")[0])
    plan.submitted(plan.planned("shop", "a")[0])
    plan.planned("shop", "a")
    result = run("cancel", "--dataset", "shop", "--partition", "a", "--json")
    assert [each["found"] for each in objects(result)] == ["canceled", "never sent"]
    assert plan.ledger.submissions.get(wanted.id).state == State.SUBMITTED
    assert [job.canceled for job in plan.emulator.jobs()] == [False, True]


def test_cancel_of_what_has_ended_keeps_its_results(run: Run, plan: Planner, token: str) -> None:
    submission = plan.submitted(plan.planned()[0])
    with ScrapeDoAsyncAPIClient(token, base_url=plan.emulator.base_url) as client:
        client.cancel_job(str(submission.job_id))  # ended, in whatever status
        plan.ledger.submissions.mark_finished(submission)
    result = run("cancel", str(submission.id))
    assert result.exit_code == 0
    assert "its results can be collected" in result.output
    assert plan.ledger.submissions.get(submission.id).state == State.FINISHED


def test_cancel_in_part_warns_of_the_rest(run: Run, plan: Planner) -> None:
    one, two = (plan.submitted(each) for each in plan.planned(batches=2))
    result = run("cancel", str(one.id))
    assert result.exit_code == 0
    assert f"scrapedo-dagster jobs cancel {two.id}" in result.output
    assert "Warning" not in run("cancel", str(two.id)).output


def test_cancel_that_fails_says_so_and_leaves_the_job_open(run: Run, plan: Planner) -> None:
    submission = plan.submitted(plan.planned()[0])
    plan.emulator.set_faults({"calls": [{"endpoint": "cancel_job", "kind": "status", "status": 400}]})
    result = run("cancel", str(submission.id))
    assert result.exit_code == 1
    assert "may go on" in result.output
    assert "400" in result.output
    assert plan.ledger.submissions.get(submission.id).state == State.SUBMITTED


def test_cancel_with_the_token_of_another_account_is_refused(run: Run, plan: Planner) -> None:
    other = plan.planned(account=account_fingerprint("another"))[0]
    result = run("cancel", str(other.id))
    assert result.exit_code == 1
    assert account_fingerprint("another")[:8] in result.output
    assert plan.account[:8] in result.output
    assert plan.ledger.submissions.get(other.id).state == State.PLANNED
    bulk = run("cancel", "--dataset", "shop")
    assert "1 submissions are of other accounts" in bulk.output
    assert plan.ledger.submissions.get(other.id).state == State.PLANNED


@pytest.mark.parametrize("arguments", [[], ["1", "--dataset", "shop"], ["--partition", "a"]])
def test_cancel_needs_to_know_exactly_what(run: Run, plan: Planner, arguments: list[str]) -> None:
    assert run("cancel", *arguments).exit_code == 2


# --- reconcile


def test_settle_adopts_a_job_whose_answer_was_lost(run: Run, plan: Planner) -> None:
    lost = plan.uncertain(plan.planned()[0])
    job_id = plan.sent(lost)
    result = run("reconcile")
    assert result.exit_code == 0
    assert f"it is job {job_id}" in result.output
    assert (plan.ledger.submissions.get(lost.id).state, plan.ledger.submissions.get(lost.id).job_id) == (
        State.SUBMITTED,
        job_id,
    )


@pytest.mark.parametrize("state", ["uncertain", "claimed"])
def test_settle_plans_again_what_certainly_did_not_arrive(run: Run, plan: Planner, state: str) -> None:
    lost = getattr(plan, state)(plan.planned()[0], ago=200)
    result = run("reconcile", "--json")
    assert result.exit_code == 0
    assert [(each["id"], each["found"], each["state"]) for each in objects(result)] == [(lost.id, "planned", "planned")]


@pytest.mark.parametrize(("state", "ago"), [("uncertain", 10), ("uncertain", 55), ("claimed", 10), ("claimed", 140)])
def test_settle_concludes_no_absence_too_early(run: Run, plan: Planner, state: str, ago: float) -> None:
    lost = getattr(plan, state)(plan.planned()[0], ago=ago)
    result = run("reconcile")
    assert result.exit_code == 1
    assert "reconcile again in" in result.output
    assert plan.ledger.submissions.get(lost.id).state == lost.state


def test_settle_concludes_nothing_from_a_service_that_cannot_be_asked(run: Run, plan: Planner) -> None:
    lost = plan.uncertain(plan.planned()[0], ago=200)
    plan.emulator.set_faults({"calls": [{"endpoint": "list_jobs", "kind": "status", "status": 400}]})
    result = run("reconcile")
    assert result.exit_code == 1
    assert "could not be asked" in result.output
    assert plan.ledger.submissions.get(lost.id).state == State.UNCERTAIN


def test_settle_says_that_what_it_found_is_of_a_canceled_generation(run: Run, plan: Planner) -> None:
    first, second = plan.planned(batches=2)
    plan.ledger.submissions.mark_canceled(first, "terminated")
    lost = plan.uncertain(second)
    plan.sent(lost)
    result = run("reconcile")
    assert f"scrapedo-dagster jobs cancel {lost.id}" in result.output


def test_settle_leaves_other_accounts_alone(run: Run, plan: Planner) -> None:
    other = plan.uncertain(plan.planned(account=account_fingerprint("another"))[0], ago=200)
    result = run("reconcile")
    assert "1 submissions are of other accounts" in result.output
    assert plan.ledger.submissions.get(other.id).state == State.UNCERTAIN


# --- what a user gets wrong


@pytest.mark.parametrize("command", [["list"], ["show", "1"], ["cancel", "1"], ["reconcile"]])
def test_a_missing_ledger_is_said_and_not_created(run: Run, home: Path, command: list[str]) -> None:
    result = run(*command)
    assert result.exit_code == 1
    assert f"no ledger at {home / 'scrapedo' / 'ledger.db'}" in result.output
    assert not home.exists()


def test_a_database_without_a_ledger_is_said_and_left_as_it_is(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "other.db"
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE mine (x)")
    connection.close()
    before = path.read_bytes()
    result = run("list", "--ledger-url", f"sqlite:///{path}")
    assert result.exit_code == 1
    assert "has no ledger" in result.output
    assert path.read_bytes() == before


def test_a_file_that_is_no_database_is_said(run: Run, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("not a database, whatever its name " * 100)
    result = run("list", "--ledger-url", f"sqlite:///{tmp_path / 'notes.txt'}")
    assert result.exit_code == 1
    assert "not a database" in result.output


def test_without_any_place_it_asks_for_one(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DAGSTER_HOME")
    result = run("list")
    assert result.exit_code == 2
    assert "SCRAPE_DO_LEDGER_URL" in result.output


def test_the_ledger_of_the_environment_is_used(
    run: Run, plan: Planner, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan.planned()
    monkeypatch.setenv("SCRAPE_DO_LEDGER_URL", f"sqlite:///{home / 'scrapedo' / 'ledger.db'}")
    monkeypatch.setenv("DAGSTER_HOME", "/nowhere")
    assert len(objects(run("list", "--json"))) == 1


@pytest.mark.parametrize("command", [["cancel", "1"], ["reconcile"]])
def test_a_missing_token_is_named(run: Run, plan: Planner, monkeypatch: pytest.MonkeyPatch, command: list[str]) -> None:
    monkeypatch.delenv("SCRAPE_DO_API_KEY")
    result = run(*command)
    assert result.exit_code == 1
    assert "SCRAPE_DO_API_KEY" in result.output


def test_an_unreachable_database_is_said_without_its_password(run: Run) -> None:
    result = run("list", "--ledger-url", "postgresql+psycopg://me:sesame@127.0.0.1:1/ledger")
    assert result.exit_code == 1
    assert "127.0.0.1" in result.output
    assert "refused" in result.output
    assert "sesame" not in result.output


def test_a_driver_that_repeats_the_password_is_not_repeated(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_engine: sa.Engine) -> None:
        raise sa.exc.OperationalError("connect", {}, Exception("no user me with password sesame"))

    monkeypatch.setattr(sa, "inspect", refuse)
    result = run("list", "--ledger-url", "postgresql+psycopg://me:sesame@127.0.0.1:1/ledger")
    assert result.exit_code == 1
    assert "no user me with password ***" in result.output


def test_a_url_that_is_none_is_said_without_repeating_it(run: Run) -> None:
    result = run("list", "--ledger-url", "me:sesame at database")
    assert result.exit_code == 1
    assert "SQLAlchemy URL" in result.output
    assert "sesame" not in result.output


def test_a_ledger_of_a_newer_release_is_not_touched(run: Run, plan: Planner) -> None:
    plan.planned()
    with plan.ledger.engine.begin() as connection:
        connection.execute(sa.text(f"UPDATE {VERSION_TABLE} SET version_num = '9999'"))
    result = run("list")
    assert result.exit_code == 1
    assert "newer release" in result.output


def test_the_command_runs_as_a_program(plan: Planner, run: Run, home: Path) -> None:
    submission = plan.submitted(plan.planned("shop", "2026-01-01")[0])
    program = [sys.executable, "-c", "from scrapedo_dagster.cli.main import main; main()", "jobs"]
    environment = os.environ | {"DAGSTER_HOME": str(home)}
    done = subprocess.run([*program, "list"], env=environment, capture_output=True, text=True, check=True)
    assert done.stderr == ""
    header, row = done.stdout.splitlines()
    assert header.split() == [
        *("id", "dataset", "partition", "generation", "batch", "state", "targets", "job_id", "reason")
    ]
    assert row.split() == [
        *(str(submission.id), "shop", "2026-01-01", "1", "0", "submitted", "3", str(submission.job_id), "-")
    ]


def test_help_needs_neither_dagster_nor_a_database() -> None:
    program = """
import sys
from click.testing import CliRunner
from scrapedo_dagster.cli.main import main
assert CliRunner().invoke(main, ["jobs", "reconcile", "--help"]).exit_code == 0
print(sorted({"dagster", "sqlalchemy", "alembic", "httpx", "pyarrow", "pandas"} & set(sys.modules)))
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
