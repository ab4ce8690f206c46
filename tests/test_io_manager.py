"""Loading the tables of a dataset into downstream assets."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import dagster as dg
import pandas as pd
import pyarrow as pa
import pyarrow.dataset as ds
import pytest
from pyarrow.fs import FileSystem
from pydantic import ValidationError

from scrapedo_dagster.engine.storage.arrow_schemas import CONTENTS_SCHEMA, TASKS_SCHEMA
from scrapedo_dagster.engine.storage.tables import ParquetStore
from scrapedo_dagster.io_manager import FILESYSTEMS, ScrapeDoParquetIOManager

RANGE_START, RANGE_END = "dagster/asset_partition_range_start", "dagster/asset_partition_range_end"
DAYS = dg.StaticPartitionsDefinition(["2026-01-01", "2026-01-02", "2026-01-03"])
REGIONS = dg.MultiPartitionsDefinition(
    {"day": dg.StaticPartitionsDefinition(["2026-01-01"]), "region": dg.StaticPartitionsDefinition(["de", "us/ca"])}
)


@pytest.fixture
def io(tmp_path: Path) -> ScrapeDoParquetIOManager:
    return ScrapeDoParquetIOManager(base_uri=str(tmp_path / "data"))


@pytest.fixture
def instance():
    with dg.DagsterInstance.ephemeral() as instance:
        yield instance


def dataset(partitions_def: dg.PartitionsDefinition | None = None):
    """Two assets that write two targets a partition, the way a dataset collects."""
    specs = [dg.AssetSpec(["products", name], partitions_def=partitions_def) for name in ("tasks", "contents")]

    @dg.multi_asset(
        specs=[spec.with_io_manager_key("scrape_do_parquet") for spec in specs],
        required_resource_keys={"scrape_do_parquet"},
    )
    def products(context: dg.AssetExecutionContext):
        store: ParquetStore = context.resources.scrape_do_parquet.store
        for partition in context.partition_keys if partitions_def else [None]:
            for table, rows in (
                (store.table(["products", "tasks"], TASKS_SCHEMA), tasks(partition)),
                (store.table(["products", "contents"], CONTENTS_SCHEMA), contents(partition)),
            ):
                with table.open_part(partition, 1, 0) as part:
                    part.write(rows)
                table.complete_generation(partition, 1, [0])
        for spec in specs:
            yield dg.MaterializeResult(spec.key)

    return products


def tasks(partition: str | None) -> pa.RecordBatch:
    known: dict[str, Any] = {"status": "success", "generation": 1}
    return pa.RecordBatch.from_pylist(
        [
            {
                **known,
                "position": 0,
                "url": f"https://a/{partition}",
                "status_code": 404,
                "response_headers": {"Via": "x"},
            },
            {**known, "position": 1, "url": f"https://b/{partition}"},
        ],
        schema=TASKS_SCHEMA,
    )


def contents(partition: str | None) -> pa.RecordBatch:
    return pa.RecordBatch.from_pylist(
        [{"task_id": "t", "url": f"https://a/{partition}", "content": b"\xff", "text": "é"}], schema=CONTENTS_SCHEMA
    )


def loaded_by(
    downstream: dg.AssetsDefinition,
    io: ScrapeDoParquetIOManager,
    instance: dg.DagsterInstance,
    upstream: dg.AssetsDefinition,
    **options: Any,
) -> dg.ExecuteInProcessResult:
    return dg.materialize(
        [upstream, downstream],
        instance=instance,
        resources={"scrape_do_parquet": io},
        selection=[downstream],
        **options,
    )


def collect(upstream, io, instance, *partitions: str) -> None:
    for key in partitions or [None]:
        options = {} if key is None else {"partition_key": key}
        dg.materialize([upstream], instance=instance, resources={"scrape_do_parquet": io}, **options)


def failure_of(result: dg.ExecuteInProcessResult) -> str:
    assert not result.success
    [failed] = result.get_step_failure_events()
    error = failed.step_failure_data.error
    reason = failed.step_failure_data.user_failure_data
    return (reason.description or "" if reason else "") + error.to_string()


def seeing(annotation: Any, metadata: Mapping[str, Any] | None = None, table: str = "tasks", **options: Any):
    """A downstream asset annotated so, and the list that gets what it was given."""
    seen: list[Any] = []

    @dg.asset(ins={"given": dg.AssetIn(["products", table], metadata=metadata)}, **options)
    def downstream(given: annotation) -> None:
        seen.append(given)

    return downstream, seen


class TestForm:
    """The annotation chooses."""

    def test_collecting_assets_on_this_io_manager_never_hand_it_a_value(self, io, instance):
        collect(dataset(), io, instance)
        assert instance.get_latest_materialization_event(dg.AssetKey(["products", "tasks"])) is not None

    @pytest.mark.parametrize(
        ("annotation", "expected"),
        [(pd.DataFrame, pd.DataFrame), (Any, pd.DataFrame), (pa.Table, pa.Table), (ds.Dataset, ds.Dataset)],
    )
    def test_annotation_chooses_the_form(self, io, instance, annotation, expected):
        upstream = dataset()
        downstream, seen = seeing(annotation)
        collect(upstream, io, instance)
        assert loaded_by(downstream, io, instance, upstream).success
        assert isinstance(seen[0], expected)
        table = seen[0].to_table() if isinstance(seen[0], ds.Dataset) else seen[0]
        assert list(table["url"].to_pylist() if isinstance(table, pa.Table) else table["url"]) == [
            "https://a/None",
            "https://b/None",
        ]

    def test_no_annotation_gives_a_dataframe(self, io, instance):
        upstream = dataset()
        seen = []

        @dg.asset(ins={"given": dg.AssetIn(["products", "tasks"])})
        def downstream(given):
            seen.append(given)

        collect(upstream, io, instance)
        assert loaded_by(downstream, io, instance, upstream).success
        assert isinstance(seen[0], pd.DataFrame)

    def test_dataframe_keeps_integers_beside_nulls_and_headers_as_dicts(self, io, instance):
        upstream = dataset()
        downstream, seen = seeing(pd.DataFrame)
        collect(upstream, io, instance)
        loaded_by(downstream, io, instance, upstream)
        assert str(seen[0]["status_code"][0]) == "404"
        assert seen[0]["status_code"][1] is pd.NA
        assert seen[0]["response_headers"][0] == {"Via": "x"}

    def test_an_unsupported_annotation_is_refused_with_the_supported_ones(self, io, instance):
        upstream = dataset()
        downstream, _ = seeing(dict[str, pd.DataFrame])
        collect(upstream, io, instance)
        error = failure_of(loaded_by(downstream, io, instance, upstream, raise_on_error=False))
        assert "products/tasks" in error
        assert "pandas.DataFrame, pyarrow.Table or pyarrow.dataset.Dataset" in error


class TestColumns:
    @pytest.mark.parametrize("annotation", [pd.DataFrame, pa.Table, ds.Dataset])
    def test_only_chosen_columns_are_loaded(self, io, instance, annotation):
        upstream = dataset(partitions_def=DAYS)
        downstream, seen = seeing(
            annotation, {"columns": ["url", "text", "partition"]}, table="contents", partitions_def=DAYS
        )
        collect(upstream, io, instance, "2026-01-01")
        assert loaded_by(downstream, io, instance, upstream, partition_key="2026-01-01").success
        table = seen[0].to_table() if annotation is ds.Dataset else seen[0]
        frame = table if annotation is pd.DataFrame else table.to_pandas()
        assert frame.to_dict("records") == [{"url": "https://a/2026-01-01", "text": "é", "partition": "2026-01-01"}]

    def test_unknown_column_is_named_with_those_there_are(self, io, instance):
        upstream = dataset()
        downstream, _ = seeing(pd.DataFrame, {"columns": ["url", "title"]}, table="contents")
        collect(upstream, io, instance)
        error = failure_of(loaded_by(downstream, io, instance, upstream, raise_on_error=False))
        assert "input 'given': 'products/contents' has no columns ['title']" in error
        assert "'text'" in error


class TestPartitions:
    def test_one_partition(self, io, instance):
        upstream = dataset(partitions_def=DAYS)
        downstream, seen = seeing(pd.DataFrame, partitions_def=DAYS)
        collect(upstream, io, instance, "2026-01-01", "2026-01-02")
        assert loaded_by(downstream, io, instance, upstream, partition_key="2026-01-02").success
        assert set(seen[0]["partition"]) == {"2026-01-02"}
        assert len(seen[0]) == 2

    def test_range_run_loads_all_its_partitions(self, io, instance):
        upstream = dataset(partitions_def=DAYS)
        downstream, seen = seeing(pd.DataFrame, partitions_def=DAYS, backfill_policy=dg.BackfillPolicy.single_run())
        collect(upstream, io, instance, "2026-01-01", "2026-01-02", "2026-01-03")
        tags = {RANGE_START: "2026-01-02", RANGE_END: "2026-01-03"}
        assert loaded_by(downstream, io, instance, upstream, tags=tags).success
        assert seen[0].groupby("partition").size().to_dict() == {"2026-01-02": 2, "2026-01-03": 2}

    def test_unpartitioned_downstream_loads_all_partitions(self, io, instance):
        upstream = dataset(partitions_def=DAYS)
        downstream, seen = seeing(ds.Dataset)
        collect(upstream, io, instance, *DAYS.get_partition_keys())
        assert loaded_by(downstream, io, instance, upstream).success
        assert seen[0].count_rows() == 6
        assert seen[0].to_table(filter=ds.field("partition") == "2026-01-03").num_rows == 2

    def test_multi_partitions(self, io, instance):
        upstream = dataset(partitions_def=REGIONS)
        downstream, seen = seeing(pd.DataFrame, partitions_def=REGIONS)
        key = dg.MultiPartitionKey({"day": "2026-01-01", "region": "us/ca"})
        collect(upstream, io, instance, key, dg.MultiPartitionKey({"day": "2026-01-01", "region": "de"}))
        assert loaded_by(downstream, io, instance, upstream, partition_key=key).success
        assert set(seen[0]["partition"]) == {"2026-01-01|us/ca"}

    def test_dynamic_partitions(self, io, instance):
        shops = dg.DynamicPartitionsDefinition(name="shops")
        instance.add_dynamic_partitions("shops", ["Müller & Söhne", ".."])
        upstream = dataset(partitions_def=shops)
        downstream, seen = seeing(pd.DataFrame)
        collect(upstream, io, instance, "Müller & Söhne", "..")
        assert loaded_by(downstream, io, instance, upstream).success
        assert set(seen[0]["partition"]) == {"Müller & Söhne", ".."}

    def test_missing_partitions_are_all_named_and_nothing_is_loaded(self, io, instance, tmp_path):
        upstream = dataset(partitions_def=DAYS)
        downstream, seen = seeing(pd.DataFrame)
        collect(upstream, io, instance, "2026-01-02")
        error = failure_of(loaded_by(downstream, io, instance, upstream, raise_on_error=False))
        assert not seen
        assert "2026-01-02" not in error.partition("Stack Trace")[0]
        for day in ("2026-01-01", "2026-01-03"):
            assert f"partition '{day}': no complete data in {tmp_path}/data/products/tasks/partition={day}" in error
        assert "Materialize the asset 'products/tasks'" in error

    def test_missing_partitions_are_skipped_with_a_warning_if_the_input_allows_it(self, io, instance, capfd):
        upstream = dataset(partitions_def=DAYS)
        downstream, seen = seeing(pd.DataFrame, {"allow_missing_partitions": True, "columns": ["url", "partition"]})
        collect(upstream, io, instance, "2026-01-02")
        assert loaded_by(downstream, io, instance, upstream).success
        assert seen[0].to_dict("records") == [
            {"url": f"https://{host}/2026-01-02", "partition": "2026-01-02"} for host in "ab"
        ]
        logged = capfd.readouterr().err
        assert "WARNING" in logged
        for day in ("2026-01-01", "2026-01-03"):
            assert f"partition '{day}': no complete data in" in logged
        assert "Skipped, because the metadata of the input has allow_missing_partitions=True" in logged

    @pytest.mark.parametrize("annotation", [pd.DataFrame, pa.Table, ds.Dataset])
    def test_all_partitions_missing_are_an_empty_table_if_the_input_allows_it(self, io, instance, annotation):
        downstream, seen = seeing(annotation, {"allow_missing_partitions": True}, partitions_def=DAYS)
        upstream = dataset(partitions_def=DAYS)
        assert loaded_by(downstream, io, instance, upstream, partition_key="2026-01-01").success
        table = seen[0].to_table() if annotation is ds.Dataset else seen[0]
        assert len(table) == 0
        columns = list(table.columns) if annotation is pd.DataFrame else table.column_names
        assert columns == [*TASKS_SCHEMA.names, "partition"]

    def test_missing_unpartitioned_data_are_an_error_even_if_partitions_may_be_missing(self, io, instance):
        downstream, _ = seeing(pd.DataFrame, {"allow_missing_partitions": True})
        error = failure_of(loaded_by(downstream, io, instance, dataset(), raise_on_error=False))
        assert "unpartitioned data: no complete data in" in error

    def test_no_partitions_at_all_is_an_error(self, io, instance):
        upstream = dataset(partitions_def=dg.DynamicPartitionsDefinition(name="shops"))
        downstream, _ = seeing(pd.DataFrame)
        error = failure_of(loaded_by(downstream, io, instance, upstream, raise_on_error=False))
        assert "no partitions" in error

    def test_missing_unpartitioned_data(self, io, instance):
        downstream, _ = seeing(pd.DataFrame)
        error = failure_of(loaded_by(downstream, io, instance, dataset(), raise_on_error=False))
        assert "unpartitioned data: no complete data in" in error


class TestMetadata:
    def test_row_count_and_place_of_one_partition(self, io, instance, tmp_path):
        upstream = dataset(partitions_def=DAYS)
        downstream, _ = seeing(ds.Dataset, partitions_def=DAYS)
        collect(upstream, io, instance, "2026-01-01")
        result = loaded_by(downstream, io, instance, upstream, partition_key="2026-01-01")
        [observation] = [event for event in result.all_events if event.event_type_value == "ASSET_OBSERVATION"]
        metadata = observation.asset_observation_data.asset_observation.metadata
        assert metadata["dagster/partition_row_count"].value == 2
        assert metadata["dagster/uri"].value == f"{tmp_path}/data/products/tasks/partition=2026-01-01"


class TestRefusals:
    def test_an_asset_outside_datasets_is_refused(self, io, instance):
        @dg.asset(io_manager_key="scrape_do_parquet")
        def mine() -> int:
            return 1

        result = dg.materialize([mine], instance=instance, resources={"scrape_do_parquet": io}, raise_on_error=False)
        error = failure_of(result)
        assert "asset 'mine': ScrapeDoParquetIOManager stores no values" in error
        assert "default IO manager" in error

    def test_input_that_is_no_asset_is_refused(self, io):
        with pytest.raises(dg.DagsterInvariantViolationError, match="input 'given': it is not an asset"):
            io.load_input(dg.build_input_context(name="given"))


def test_asset_values_can_be_loaded_outside_of_runs(io, instance):
    upstream = dataset(partitions_def=DAYS)
    collect(upstream, io, instance, "2026-01-01")
    definitions = dg.Definitions([upstream], resources={"scrape_do_parquet": io})
    key = dg.AssetKey(["products", "tasks"])
    frame = definitions.load_asset_value(key, python_type=pd.DataFrame, partition_key="2026-01-01", instance=instance)
    assert len(frame) == 2


def test_defining_touches_no_disk(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    io = ScrapeDoParquetIOManager(base_uri="data")
    dg.Definitions([dataset()], resources={"scrape_do_parquet": io}).resolve_all_job_defs()
    assert io.store.uri("x") == str(tmp_path / "data" / "x")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("uri", "reason"), [("foo://x/canary", "no filesystem foo://"), ("", "at least 1 character")])
def test_a_base_uri_that_cannot_be_used_is_refused(uri, reason):
    with pytest.raises(ValidationError, match=reason) as raised:
        ScrapeDoParquetIOManager(base_uri=uri)
    assert "canary" not in str(raised.value)


def complaint_of_pyarrow(uri):
    """Why pyarrow cannot use this filesystem; empty if it can."""
    try:
        FileSystem.from_uri(uri)
    except (ImportError, OSError, ValueError) as error:
        return str(error)
    return ""


@pytest.mark.parametrize("scheme", FILESYSTEMS)
def test_pyarrow_supports_the_filesystems_that_are_accepted(scheme):
    assert "Unrecognized filesystem" in complaint_of_pyarrow("foo://bucket/x")
    query = "?region=eu-west-1" if scheme == "s3" else ""  # without it, the bucket is asked for its region
    assert "Unrecognized filesystem" not in complaint_of_pyarrow(f"{scheme}:///bucket/x{query}")
