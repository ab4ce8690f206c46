"""Lists of targets from the Launchpad and in graphs: paid once, and collected even if their run dies."""

from __future__ import annotations

import os
import pickle
import re
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal, get_args

import dagster as dg
import pandas as pd
import pytest
import sqlalchemy as sa
import yaml
from dagster._core.definitions.reconstruct import ReconstructableRepository
from pydantic import BaseModel, ValidationError

import scrapedo_dagster.execution.ad_hoc_steps
import scrapedo_dagster.execution.steps
from scrapedo_dagster import (
    ScrapeDoCollected,
    ScrapeDoDataset,
    ScrapeDoHandle,
    ScrapeDoParquetIOManager,
    ScrapeDoResource,
    ScrapeOptions,
    SubmitTargetsConfig,
    build_ad_hoc_dataset,
    build_scrape_do_assets,
    collect_targets,
    submit_targets,
)
from scrapedo_dagster.api import RenderOptions
from scrapedo_dagster.emulator import Emulator
from scrapedo_dagster.engine.ledger.ledger import Ledger
from scrapedo_dagster.engine.ledger.records import RecordedOptions
from scrapedo_dagster.engine.ledger.tables import generations

pytestmark = pytest.mark.slow

DOCS = Path(__file__).parents[1] / "docs" / "ops.md"
Pages = Callable[[str], "list[str]"]
Result = dg.ExecuteInProcessResult
KEY = "books"


@pytest.fixture
def bundle() -> ScrapeDoDataset:
    return build_ad_hoc_dataset()


def config_of(op: str = "submit_targets", **config: Any) -> dict[str, Any]:
    """What is written in the Launchpad."""
    return {"ops": {op: {"config": config}}}


@pytest.fixture
def launch(bundle: ScrapeDoDataset, resources: dict[str, Any], instance: dg.DagsterInstance) -> Callable[..., Result]:
    """Launch the job `scrape_targets`; a failed run is returned, not raised."""
    job = dg.Definitions.merge(bundle.defs, dg.Definitions(resources=resources)).resolve_job_def("scrape_targets")

    def launch(only: str | None = None, **config: Any) -> Result:
        return job.execute_in_process(
            run_config=config_of(**config),
            instance=instance,
            raise_on_error=False,
            op_selection=[only] if only else None,
        )

    return launch


@pytest.fixture
def tick(tick: Callable[..., Any], instance: dg.DagsterInstance) -> Callable[..., Any]:
    """As the daemon has it evaluated, with the dynamic partitions of the instance."""

    def tick_with_partitions(*datasets: ScrapeDoDataset) -> Any:
        with dg.partition_loading_context(dynamic_partitions_store=instance):
            return tick(*datasets)

    return tick_with_partitions


@pytest.fixture
def execute(resources: dict[str, Any], instance: dg.DagsterInstance) -> Callable[..., Result]:
    def execute(graph: dg.GraphDefinition, run_config: dict[str, Any] | None = None, **arguments: Any) -> Result:
        job = graph.to_job(resource_defs=resources, **arguments)
        return job.execute_in_process(instance=instance, run_config=run_config, raise_on_error=False)

    return execute


def failure_of(result: Result | dg.JobExecutionResult) -> str:
    """The error of the failed step, as the UI shows it."""
    [event] = [event for event in result.all_events if event.is_step_failure]
    return str(event.step_failure_data.error_display_string)


def urls(frame: pd.DataFrame) -> list[str]:
    return sorted(frame["url"])


def paid(emulator: Emulator) -> list[int]:
    return sorted(count.submitted for count in emulator.targets().values())


# --- a launch


def test_a_list_from_the_launchpad_ends_in_parquet_that_an_asset_loads(
    launch: Callable[..., Result], bundle: ScrapeDoDataset, pages: Pages, emulator: Emulator, events: Any,
    resources: dict[str, Any], instance: dg.DagsterInstance,
) -> None:  # fmt: skip
    written = yaml.safe_load(f"""
        targets: {pages("a")}
        partition_key: {KEY}
        options: {{device: mobile, session_id: 7, render: {{custom_wait: 100}}}}
    """)
    result = launch(**written)
    assert result.success
    request = emulator.jobs()[0].request
    assert (request["Device"], request["SessionID"], request["Render"]) == ("mobile", "7", {"CustomWait": 100})
    assert result.output_for_node("submit_targets") == ScrapeDoHandle("ad_hoc", KEY, 1)
    collected = result.output_for_node("collect_targets")
    assert (collected.targets, collected.succeeded, collected.failed, collected.credits) == (3, 3, 0, 15)
    assert sorted(pd.read_parquet(collected.tasks_uri)["url"]) == sorted(pages("a"))
    assert events("ad_hoc/jobs") == events("ad_hoc/tasks") == events("ad_hoc/contents") == {KEY: 1}

    @dg.asset(
        ins={"contents": dg.AssetIn(["ad_hoc", "contents"], metadata={"columns": ["url"]})},
        partitions_def=bundle.dataset.partitions_def,
    )
    def downstream(contents: pd.DataFrame) -> list[str]:
        return urls(contents)

    loaded = dg.materialize(
        [downstream, *bundle.assets], selection=[downstream], partition_key=KEY, resources=resources, instance=instance
    )
    assert loaded.output_for_node("downstream") == sorted(pages("a"))


def test_each_launch_is_a_partition_of_its_own_that_names_its_run(
    launch: Callable[..., Result], pages: Pages, instance: dg.DagsterInstance, emulator: Emulator
) -> None:
    runs = [launch(targets=pages("a")[:1]).run_id for _ in range(2)]
    partitions = instance.get_dynamic_partitions("ad_hoc")
    assert [key[-8:] for key in partitions] == [run[:8] for run in runs]
    assert all(re.fullmatch(r"\d{4}-\d\d-\d\d_\d\d-\d\d-\d\d_[0-9a-f]{8}", key) for key in partitions)
    assert paid(emulator) == [2]


def test_a_file_of_targets_is_read_with_its_keys(launch: Callable[..., Result], pages: Pages, tmp_path: Path) -> None:
    lines = ["sku,link", *(f"sku-{number},{url}" for number, url in enumerate(pages("a")))]
    (tmp_path / f"{KEY}.csv").write_text("\n".join(lines))
    file = {"uri": f"{tmp_path}/{{partition_key}}.csv", "column": "link", "key_column": "sku"}
    result = launch(targets_file=file, partition_key=KEY)
    tasks = pd.read_parquet(result.output_for_node("collect_targets").tasks_uri)
    assert dict(zip(tasks["url"], tasks["target_key"], strict=True)) == {
        url: f"sku-{number}" for number, url in enumerate(pages("a"))
    }


def test_a_secret_is_named_in_the_config_and_recorded_nowhere(
    launch: Callable[..., Result], pages: Pages, emulator: Emulator, instance: dg.DagsterInstance, token: str,
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setenv("SHOP_LOGIN", token)
    result = launch(targets=pages("a"), options={"geo_code": "us", "headers": {"Login": {"env": "SHOP_LOGIN"}}})
    assert result.success
    assert emulator.jobs()[0].request["Headers"] == {"Login": token}
    recorded = [*instance.all_logs(result.run_id), instance.get_run_by_id(result.run_id)]
    message = " ".join(dg.serialize_value(each) for each in recorded)
    assert "geo_code" in message
    assert token not in message
    [submission] = ledger.submissions.find()
    assert ledger.generations.recorded_options(submission.ref, 1) == RecordedOptions(
        options={"geo_code": "us"}, withheld=("headers",), max_open_jobs=None, retry_failed_targets=0
    )


def test_what_comes_out_of_the_ops_pickles_small() -> None:
    handle = ScrapeDoHandle("ad_hoc", KEY, 1)
    collected = ScrapeDoCollected("ad_hoc", KEY, 1, 3, 3, 0, 3, "/data/tasks", "/data/contents")
    for made in (handle, collected):
        assert pickle.loads(pickle.dumps(made)) == made
        assert len(pickle.dumps(made)) < 500


def test_an_ad_hoc_dataset_takes_what_datasets_take(resources: dict[str, Any], instance: dg.DagsterInstance) -> None:
    retries = dg.RetryPolicy(max_retries=1)
    about: dict[str, Any] = {"group_name": "scraped", "owners": ["team:shop"], "tags": {"tier": "1"}}
    bundle = build_ad_hoc_dataset(**about, kinds={"html"}, description="Lists.", pool="web", retry_policy=retries)
    for asset in bundle.assets:
        for spec in asset.specs if isinstance(asset, dg.AssetsDefinition) else [asset]:
            assert (spec.group_name, list(spec.owners), spec.tags["tier"]) == ("scraped", ["team:shop"], "1")
            assert "html" in spec.kinds
            assert str(spec.description).startswith("Lists.")
    assert bundle.assets[1].op.pools == {"web"}
    assert bundle.assets[1].op.retry_policy == retries
    job = dg.Definitions.merge(bundle.defs, dg.Definitions(resources=resources)).resolve_job_def("scrape_targets")
    assert [node.definition.pools for node in job.nodes] == [{"web"}, {"web"}]
    config = config_of(targets_file={"uri": "/nowhere/urls.csv"})
    result = job.execute_in_process(run_config=config, instance=instance, raise_on_error=False)
    assert [event.step_key for event in result.all_events if event.is_step_up_for_retry] == ["submit_targets"]


def test_a_list_that_takes_longer_than_the_deadline_fails_and_keeps_its_jobs(
    resources: dict[str, Any], pages: Pages, instance: dg.DagsterInstance, emulator: Emulator
) -> None:
    emulator.set_faults({"targets": [{"kind": "linger"}]})
    bundle = build_ad_hoc_dataset(job_deadline=0.5)
    job = dg.Definitions.merge(bundle.defs, dg.Definitions(resources=resources)).resolve_job_def("scrape_targets")
    result = job.execute_in_process(run_config=config_of(targets=pages("a")), instance=instance, raise_on_error=False)
    assert "collect_targets" in [event.step_key for event in result.all_events if event.is_step_failure]
    assert [job.canceled for job in emulator.jobs()] == [False]


@pytest.mark.parametrize(("argument", "value"), [("min_success_ratio", 90), ("job_deadline", 0)])
def test_a_wrong_argument_is_named(argument: str, value: float) -> None:
    with pytest.raises(
        dg.DagsterInvalidDefinitionError, match=rf"build_ad_hoc_dataset\(name='ad_hoc'\): {argument}={value}: "
    ):
        build_ad_hoc_dataset(**{argument: value})


def test_an_empty_list_is_a_partition_without_rows_and_is_warned_of(
    launch: Callable[..., Result], instance: dg.DagsterInstance
) -> None:
    result = launch(targets=[], partition_key=KEY)
    assert result.output_for_node("collect_targets").targets == 0
    logged = [entry.user_message for entry in instance.all_logs(result.run_id)]
    assert [line for line in logged if line.startswith("ad_hoc, partition 'books': no targets were listed.")]


# --- guards and mistakes


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({}, "Give exactly one of targets, targets_file, an input from another op; given: none of them"),
        ({"targets": ["ftp://x"]}, "1 of 1 targets are no URLs"),
        ({"targets": ["http://x/1", "http://x/2"], "max_credits": 1}, "max_credits is 1"),
        ({"targets_file": {"uri": "/nowhere/urls.csv"}}, "/nowhere/urls.csv"),
        ({"targets": [], "targets_file": {"uri": "urls.csv"}}, "given: targets and targets_file"),
        ({"targets_file": {"uri": "urls.xls"}}, "'urls.xls' has no known suffix"),
        ({"targets_file": {"uri": "{regoin}.csv"}}, "{regoin} is not a placeholder"),
        ({"targets": [], "partition_key": "a...b"}, "partition_key: 'a...b' cannot be"),
        ({"targets": [], "options": {"timeout": 1}}, "options.timeout: Input should be greater than or equal to 5000"),
        ({"targets": [], "options": {"regional_geo_code": "asia"}}, "regional_geo_code='asia' needs super=True"),
        (
            {"targets": [], "retry_failed_targets": 1, "options": {"body": "x", "render": {"play_with_browser": [
                {"Action": "Click", "Selector": "a"}]}}},
            "cannot be combined with options.body, options.render.play_with_browser",
        ),
    ],
)  # fmt: skip
def test_a_mistake_is_reported_with_its_field_and_nothing_is_submitted(
    launch: Callable[..., Result],
    emulator: Emulator,
    instance: dg.DagsterInstance,
    config: dict[str, Any],
    message: str,
) -> None:
    result = launch(**config)
    assert message in failure_of(result)
    assert emulator.jobs() == []
    assert instance.get_dynamic_partitions("ad_hoc") == []


def test_a_refused_launch_keeps_a_partition_that_was_there(
    launch: Callable[..., Result], instance: dg.DagsterInstance, pages: Pages
) -> None:
    instance.add_dynamic_partitions("ad_hoc", ["ours"])
    assert launch(targets=pages("a"), partition_key=KEY).success
    for key in ("ours", KEY, "other"):
        assert not launch(targets=pages("b"), partition_key=key, max_credits=1).success
    assert sorted(instance.get_dynamic_partitions("ad_hoc")) == [KEY, "ours"]


def test_a_launch_that_is_refused_after_it_was_planned_keeps_its_partition(
    launch: Callable[..., Result], instance: dg.DagsterInstance, pages: Pages, emulator: Emulator
) -> None:
    refuse_submissions(emulator)
    assert not launch(targets=pages("a"), partition_key=KEY).success
    assert instance.get_dynamic_partitions("ad_hoc") == [KEY]


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"dataset": "shop"}, "dataset not in enum type Literal['ad_hoc'] got shop"),
        ({"options": {"device": "tv"}}, "options:device not in enum type ScrapeOptions_device got tv"),
        ({"options": {"geocode": "us"}}, 'unexpected config entry "geocode" at path root:ops:submit_targets:config:op'),
        ({"options": {"render": {"custom_wait": "long"}}}, "render:custom_wait"),
    ],
)
def test_the_launchpad_refuses_what_no_run_could_use(
    launch: Callable[..., Result], config: dict[str, Any], message: str
) -> None:
    with pytest.raises(dg.DagsterInvalidConfigError) as caught:
        launch(**config)
    assert message in str(caught.value)


def test_a_rule_that_fails_shows_no_secret(token: str) -> None:
    with pytest.raises(ValidationError) as caught:
        SubmitTargetsConfig(targets=[], options={"headers": {"A": token}, "set_cookies": token})
    assert "headers cannot be combined with set_cookies" in str(caught.value)
    assert token not in str(caught.value)


# --- what the Launchpad knows


def fields_of(config_type: Any) -> dict[str, dg.Field]:
    return getattr(config_type, "inner_type", config_type).fields


def literals(annotation: Any) -> set[Any]:
    inner = [each for each in get_args(annotation) if getattr(each, "__origin__", None) is Literal]
    return set(get_args(inner[0])) if inner else set()


@pytest.mark.parametrize(("model", "path"), [(ScrapeOptions, ["options"]), (RenderOptions, ["options", "render"])])
def test_the_launchpad_knows_every_option_with_its_values_and_what_it_means(
    model: type[BaseModel], path: list[str]
) -> None:
    fields: dict[str, Any] = SubmitTargetsConfig.to_fields_dict()
    assert all(field.description for field in fields.values())
    for name in path:
        fields = fields_of(fields[name].config_type)
    assert fields.keys() == model.model_fields.keys()
    for name, field in model.model_fields.items():
        assert fields[name].description, name
        assert not fields[name].is_required
        values = {each.config_value for each in getattr(fields[name].config_type.inner_type, "enum_values", ())}
        assert values == literals(field.annotation), name


def test_options_come_out_as_they_were_written() -> None:
    written = {
        "method": "POST", "body": "b", "geo_code": "us", "super": True, "headers": {"A": "b"}, "forward_headers": True,
        "session_id": 5, "device": "tablet", "timeout": 6000, "disable_retry": False, "transparent_response": True,
        "disable_redirection": True, "output": "markdown", "webhook_url": "https://x.example/",
        "webhook_headers": {"C": "d"},
        "render": {"wait_until": "load", "play_with_browser": [{"Action": "Click", "Selector": "a"}]},
    }  # fmt: skip
    config = SubmitTargetsConfig(targets=[], options=written)
    assert config.scrape_options() == ScrapeOptions.model_validate(written)


# --- what dies, and what is repeated


@pytest.fixture
def dies(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Any]:
    """A step dies at one of its parts, while the block is entered."""

    @contextmanager
    def dies(part: str) -> Iterator[None]:
        def die(*_: Any) -> None:
            raise RuntimeError("out of memory")

        with monkeypatch.context() as patch:
            patch.setattr(scrapedo_dagster.execution.ad_hoc_steps, part, die)
            yield

    return dies


def test_a_list_whose_run_died_is_collected_by_the_sensor(
    launch: Callable[..., Result], bundle: ScrapeDoDataset, pages: Pages, ended: Callable[[], None], tick: Any,
    collect: Any, events: Any, emulator: Emulator, dies: Callable[[str], Any],
) -> None:  # fmt: skip
    with dies("collect_partitions"):
        assert not launch(targets=pages("a"), partition_key=KEY).success
    ended()
    [request] = tick(bundle).run_requests
    assert (request.job_name, request.partition_key) == ("ad_hoc_collect", KEY)
    assert collect(request, bundle).success
    assert events("ad_hoc/tasks") == events("ad_hoc/contents") == {KEY: 1}
    assert paid(emulator) == [1, 1, 1]
    assert tick(bundle).run_requests == []


@pytest.fixture
def looks(bundle: ScrapeDoDataset, ended: Callable[[], None], tick: Any) -> Callable[[], list[str | None]]:
    """Once all jobs have ended, the partitions that a tick of the sensor wants to have collected."""

    def looks() -> list[str | None]:
        ended()
        return [request.partition_key for request in tick(bundle).run_requests]

    return looks


def test_the_sensor_leaves_to_the_job_what_it_is_going_to_collect(
    launch: Callable[..., Result], pages: Pages, looks: Callable[[], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    found = []
    real = scrapedo_dagster.execution.ad_hoc_steps.submit_partition

    def look_after(*arguments: Any) -> Any:
        result = real(*arguments)
        found.append(looks())
        return result

    monkeypatch.setattr(scrapedo_dagster.execution.ad_hoc_steps, "submit_partition", look_after)
    assert launch(targets=pages("a")).success
    assert [*found, looks()] == [[], []]


def test_the_sensor_collects_what_a_graph_does_not_while_the_graph_runs(
    execute: Callable[..., Result], pages: Pages, looks: Callable[[], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    found: dict[str, list[str | None]] = {}
    real = scrapedo_dagster.execution.ad_hoc_steps.collect_partitions

    @dg.op
    def something_long(handle: ScrapeDoHandle) -> ScrapeDoHandle:
        found["long"] = looks()
        return handle

    @dg.graph
    def mine() -> None:
        something_long(submit_targets())

    @dg.graph
    def collecting() -> None:
        collect_targets(submit_targets())

    def look_first(*arguments: Any) -> Any:
        found["collecting"] = looks()
        return real(*arguments)

    monkeypatch.setattr(scrapedo_dagster.execution.ad_hoc_steps, "collect_partitions", look_first)
    assert execute(mine, config_of(targets=pages("a"), partition_key="a")).success
    assert execute(collecting, config_of(targets=pages("b"), partition_key="b")).success
    assert found == {"long": ["a"], "collecting": []}


def test_terminating_a_run_that_waits_cancels_its_jobs(
    launch: Callable[..., Result], pages: Pages, emulator: Emulator, instance: dg.DagsterInstance,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    emulator.set_faults({"targets": [{"kind": "linger"}]})

    def terminated(*_: Any, **__: Any) -> None:
        instance.report_run_canceling(instance.get_runs()[0])
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(5)

    monkeypatch.setattr(scrapedo_dagster.execution.steps, "collect_generations", terminated)
    assert "The run was terminated; 1 Scrape.do jobs were canceled" in failure_of(launch(targets=pages("a")))
    assert [job.canceled for job in emulator.jobs()] == [True]
    assert instance.get_runs()[0].status == dg.DagsterRunStatus.CANCELED


def refuse_submissions(emulator: Emulator) -> None:
    emulator.set_faults({"calls": [{"kind": "status", "endpoint": "create_job", "status": 401}]})


def test_what_a_dead_run_had_not_sent_is_sent_with_its_recorded_options(
    launch: Callable[..., Result], bundle: ScrapeDoDataset, pages: Pages, tick: Any, collect: Any, emulator: Emulator
) -> None:
    refuse_submissions(emulator)
    broken = f"{pages('a')[0]}&broken"
    config = {"options": {"device": "mobile", "session_id": 7, "super": True}, "retry_failed_targets": 1}
    assert not launch(targets=[*pages("a"), broken], partition_key=KEY, **config).success
    emulator.set_faults({"targets": [{"kind": "error", "match": "*broken"}]})
    [request] = tick(bundle).run_requests
    assert collect(request, bundle).success
    sent = [job.request for job in emulator.jobs()]
    assert [len(each.pop("Targets")) for each in sent] == [4, 1]
    assert sent == [{"Device": "mobile", "SessionID": "7", "Super": True}] * 2


def test_what_needs_a_secret_is_sent_by_nobody_but_its_own_run(
    launch: Callable[..., Result], bundle: ScrapeDoDataset, pages: Pages, tick: Any, collect: Any, emulator: Emulator
) -> None:
    refuse_submissions(emulator)
    config = {"partition_key": KEY, "options": {"headers": {"A": "secret"}}}
    result = launch(targets=pages("a"), **config)
    assert not result.success
    emulator.set_faults({})
    [request] = tick(bundle).run_requests
    message = failure_of(collect(request, bundle))
    assert "not recorded: headers" in message
    assert f"Re-execute run {result.run_id}, or launch a run with its config and with partition_key='{KEY}'" in message
    assert emulator.jobs() == []
    assert launch(targets=pages("a"), **config).success
    assert [job.request["Headers"] for job in emulator.jobs()] == [{"A": "secret"}]


def test_what_an_earlier_release_has_not_sent_is_sent_by_nobody_but_its_own_run(
    launch: Callable[..., Result], bundle: ScrapeDoDataset, pages: Pages, tick: Any, collect: Any, emulator: Emulator,
    ledger: Ledger,
) -> None:  # fmt: skip
    """It recorded the options in Dagster's event log, which is not read any more."""
    refuse_submissions(emulator)
    assert not launch(targets=pages("a"), partition_key=KEY, options={"device": "mobile"}).success
    emulator.set_faults({})
    with ledger.engine.begin() as connection:
        connection.execute(sa.update(generations).values(recorded_options=None))
    [request] = tick(bundle).run_requests
    assert "not recorded: options" in failure_of(collect(request, bundle))
    assert emulator.jobs() == []


def test_a_second_launch_with_another_list_and_a_secret_sends_it_to_none_of_the_first(
    launch: Callable[..., Result], pages: Pages, emulator: Emulator
) -> None:
    refuse_submissions(emulator)
    assert not launch(targets=pages("a"), partition_key=KEY).success
    emulator.set_faults({})
    options = {"headers": {"A": "secret"}}
    second = launch(targets=pages("b"), partition_key=KEY, options=options)
    assert second.output_for_node("collect_targets").generation == 2
    assert [(job.targets, job.request["Headers"]) for job in emulator.jobs()] == [(tuple(pages("b")), {"A": "secret"})]


def test_a_second_launch_that_is_refused_leaves_the_options_of_the_first(
    launch: Callable[..., Result], bundle: ScrapeDoDataset, pages: Pages, tick: Any, collect: Any, emulator: Emulator,
    ledger: Ledger,
) -> None:  # fmt: skip
    refuse_submissions(emulator)
    assert not launch(targets=pages("a"), partition_key=KEY, options={"device": "mobile"}).success
    emulator.set_faults({})
    # As if it were on its way.
    on_its_way = ledger.submissions.claim(
        ledger.submissions.find()[0], run_id="first", fingerprint=ledger.submissions.find()[0].fingerprint
    )
    assert on_its_way is not None
    second = launch(targets=pages("b"), partition_key=KEY, options={"headers": {"A": "secret"}})
    assert "The new list has other targets and other options" in failure_of(second)
    ledger.submissions.release(on_its_way, "it never arrived")
    [request] = tick(bundle).run_requests
    assert collect(request, bundle).success
    assert [(job.targets, job.request.get("Device"), job.request.get("Headers")) for job in emulator.jobs()] == [
        (tuple(pages("a")), "mobile", None)
    ]


def test_a_second_launch_of_a_partition_continues_the_first_until_it_is_collected(
    launch: Callable[..., Result], pages: Pages, emulator: Emulator
) -> None:
    assert launch("submit_targets", targets=pages("a"), partition_key=KEY).success
    second = launch(targets=pages("a"), partition_key=KEY)
    assert second.output_for_node("collect_targets").generation == 1
    assert paid(emulator) == [1, 1, 1]
    third = launch(targets=pages("a"), partition_key=KEY)
    assert third.output_for_node("collect_targets").generation == 2
    assert paid(emulator) == [2, 2, 2]


def test_a_handle_of_an_older_scrape_collects_the_newest(
    launch: Callable[..., Result], execute: Callable[..., Result], pages: Pages, emulator: Emulator
) -> None:
    for _ in range(2):
        assert launch(targets=pages("a"), partition_key=KEY).success
    fetched = emulator.requests()["get_task"]

    @dg.op
    def old() -> ScrapeDoHandle:
        return ScrapeDoHandle("ad_hoc", KEY, 1)

    @dg.graph
    def mine() -> Any:
        return collect_targets(old())

    collected = execute(mine).output_for_node("collect_targets")
    assert (collected.generation, collected.succeeded) == (2, 3)
    assert emulator.requests()["get_task"] == fetched


def code_location() -> dg.RepositoryDefinition:
    @dg.job
    def mine() -> None:
        submit_targets()

    resources = {
        "scrape_do": ScrapeDoResource(
            api_token=dg.EnvVar("SCRAPE_DO_API_KEY"), base_url=dg.EnvVar("SCRAPE_DO_BASE_URL")
        ),
        "scrape_do_parquet": ScrapeDoParquetIOManager(base_uri=dg.EnvVar("DATA")),
    }
    shop = build_scrape_do_assets(name="shop", targets=[])
    defs = dg.Definitions.merge(
        build_ad_hoc_dataset().defs, shop.defs, dg.Definitions(jobs=[mine], resources=resources)
    )
    return defs.get_repository_def()


@pytest.fixture
def execute_job(
    instance: dg.DagsterInstance, emulator: Emulator, data: Path, token: str, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., dg.JobExecutionResult]:
    """Execute a job of the code location as a run worker does. `again` are the steps of a run to execute again."""
    monkeypatch.setenv("SCRAPE_DO_API_KEY", token)
    monkeypatch.setenv("SCRAPE_DO_BASE_URL", emulator.base_url)
    monkeypatch.setenv("DATA", str(data))
    location = ReconstructableRepository.for_file(__file__, "code_location")

    def execute_job(name: str, again: tuple[str, str] | None = None, **config: Any) -> dg.JobExecutionResult:
        return dg.execute_job(
            location.get_reconstructable_job(name),
            instance,
            run_config={**config_of(**config), "execution": {"config": {"in_process": {}}}},
            reexecution_options=again and dg.ReexecutionOptions(again[0], step_selection=[again[1]]),
        )

    return execute_job


@pytest.mark.parametrize("step", ["submit_targets*", "collect_targets"])
def test_a_retry_of_a_run_continues_its_partition_and_pays_nothing(
    execute_job: Callable[..., dg.JobExecutionResult], pages: Pages, instance: dg.DagsterInstance, emulator: Emulator,
    events: Any, dies: Callable[..., Any], step: str,
) -> None:  # fmt: skip
    with dies("collect_partitions"):
        first = execute_job("scrape_targets", targets=pages("a"))
    assert not first.success
    second = execute_job("scrape_targets", again=(first.run_id, step), targets=pages("a"))
    assert second.success
    assert second.run_id != first.run_id
    [key] = instance.get_dynamic_partitions("ad_hoc")
    assert key.endswith(first.run_id[:8])
    assert events("ad_hoc/tasks") == {key: 1}
    assert paid(emulator) == [1, 1, 1]


def test_a_dataset_that_has_targets_of_its_own_is_refused(
    execute_job: Callable[..., dg.JobExecutionResult], pages: Pages, emulator: Emulator
) -> None:
    message = failure_of(execute_job("mine", targets=pages("a"), dataset="shop"))
    assert "'shop' is a dataset of this code location with its own targets" in message
    assert emulator.jobs() == []


def test_a_dataset_that_nobody_looks_after_is_warned_of(
    execute_job: Callable[..., dg.JobExecutionResult], pages: Pages, instance: dg.DagsterInstance
) -> None:
    for dataset, warned in (("ad_hoc", False), ("others", True)):
        result = execute_job("mine", targets=pages("a")[:1], dataset=dataset)
        logged = [entry.user_message for entry in instance.all_logs(result.run_id)]
        assert any(f"This code location has no dataset {dataset!r}" in line for line in logged) is warned


# --- in graphs of one's own


def test_lists_of_one_run_are_partitions_of_their_own(
    execute: Callable[..., Result], pages: Pages, instance: dg.DagsterInstance, emulator: Emulator
) -> None:
    @dg.op(out=dg.DynamicOut(list))
    def lists() -> Any:
        for key in "ab":
            yield dg.DynamicOutput(pages(key), mapping_key=key)

    @dg.graph
    def mine() -> None:
        lists().map(submit_targets).map(collect_targets)
        collect_targets(submit_targets.alias("others")())

    result = execute(mine, config_of("others", targets=pages("c")))
    assert result.success
    name = f"{result.run_id[:8]}_"
    partitions = instance.get_dynamic_partitions("ad_hoc")
    assert sorted(key.partition(name)[2] for key in partitions) == ["others", "submit_targets-a", "submit_targets-b"]
    assert paid(emulator) == [1] * 9
    collected = result.output_for_node("collect_targets")
    assert {key: each.partition.endswith(f"submit_targets-{key}") for key, each in collected.items()} == {
        "a": True,
        "b": True,
    }


# --- the page


def test_the_blocks_of_the_page_run(
    pages: Pages, resources: dict[str, Any], instance: dg.DagsterInstance, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    text = DOCS.read_text(encoding="utf-8")
    monkeypatch.setenv("SHOP_LOGIN", "secret")
    (tmp_path / "urls.csv").write_text("\n".join(["url", *pages("file")]))
    here = {"https://example.com": pages("page")[0], "s3://bucket/urls.csv": str(tmp_path / "urls.csv")}
    names: dict[str, Any] = {}
    for block in re.findall(r"```python\n(.*?)```", text, flags=re.DOTALL):
        for printed, local in here.items():
            block = block.replace(printed, local)
        exec(compile(block, "ops.md", "exec", dont_inherit=True), names)
    defs = dg.Definitions.merge(names["defs"], dg.Definitions(resources=resources))
    configs = re.findall(r"```yaml\n(.*?)```", text, flags=re.DOTALL)
    assert len(configs) == 2
    for block in configs:
        for printed, local in here.items():
            block = block.replace(printed, local)
        job = defs.resolve_job_def("scrape_targets")
        assert job.execute_in_process(run_config=yaml.safe_load(block), instance=instance).success
    assert defs.resolve_job_def("follow_links").execute_in_process(instance=instance).success
