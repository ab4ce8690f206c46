"""Parts and generations, and what readers see of them."""

from datetime import datetime, timezone
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest

from scrapedo_dagster.engine.errors import MissingPartitionsError, ParquetStoreError
from scrapedo_dagster.engine.storage.arrow_schemas import CONTENTS_SCHEMA, TASKS_SCHEMA
from scrapedo_dagster.engine.storage.tables import ParquetStore

MB = 1024 * 1024
AWKWARD_KEYS = ["a/b", "k=v", "100%", "..", "a b", "é", "😀" * 200, "x|y", "US", "us", "a%2Fb", ""]


class TestPartitions:
    def test_rows_come_back_with_their_partition(self, any_pages, scrape):
        scrape(any_pages, "mon", 1, ["a", "b"], ["c"])
        scrape(any_pages, "tue", 1, ["d"])
        table = any_pages.dataset(["mon", "tue"]).to_table(columns=["partition", "url"])
        assert table.to_pylist() == [
            {"partition": "mon", "url": "a"},
            {"partition": "mon", "url": "b"},
            {"partition": "mon", "url": "c"},
            {"partition": "tue", "url": "d"},
        ]

    def test_awkward_keys_stay_distinct_and_are_decoded(self, any_pages, scrape):
        for key in AWKWARD_KEYS:
            scrape(any_pages, key, 1, [f"page of {key}"])
        table = any_pages.dataset(AWKWARD_KEYS).to_table(columns=["partition", "url"])
        assert table.to_pylist() == [{"partition": key, "url": f"page of {key}"} for key in AWKWARD_KEYS]

    def test_only_the_partitions_asked_for_are_read(self, any_pages, scrape, urls_of):
        scrape(any_pages, "mon", 1, ["a"])
        scrape(any_pages, "tue", 1, ["b"])
        assert urls_of(any_pages, "tue") == ["b"]

    def test_partition_asked_for_twice_is_read_once(self, pages, scrape, urls_of):
        scrape(pages, "mon", 1, ["a"])
        assert urls_of(pages, "mon", "mon") == ["a"]

    def test_filter_on_the_partition_opens_no_other_file(self, pages, scrape):
        scrape(pages, "mon", 1, ["a"])
        scrape(pages, "tue", 1, ["b"])
        dataset = pages.dataset(["mon", "tue"])
        Path(pages.parts("tue")[0].path).unlink()
        assert dataset.to_table(filter=ds.field("partition") == "mon")["url"].to_pylist() == ["a"]

    def test_unpartitioned_data_are_in_the_directory_of_the_asset(self, any_pages, scrape, urls_of):
        scrape(any_pages, None, 1, ["a"], ["b"])
        assert urls_of(any_pages, None) == ["a", "b"]
        assert "partition" not in any_pages.dataset(None).schema.names
        assert "partition=" not in any_pages.uri(None)

    def test_partition_without_rows_can_be_read(self, any_pages, scrape):
        scrape(any_pages, "mon", 1, [])
        assert any_pages.dataset(["mon"]).count_rows() == 0

    def test_all_missing_partitions_are_named_with_their_location(self, any_pages, scrape, write_part):
        scrape(any_pages, "mon", 1, ["a"])
        write_part(any_pages, "wed", 1, 0, "part of an incomplete generation")
        with pytest.raises(MissingPartitionsError) as caught:
            any_pages.dataset(["mon", "tue", "wed"])
        assert set(caught.value.reasons) == {"tue", "wed"}
        for day in ("tue", "wed"):
            assert f"partition '{day}': no complete data in {any_pages.uri(day)}" in str(caught.value)

    def test_a_part_that_someone_else_deleted_is_missing(self, any_pages, any_store, scrape):
        scrape(any_pages, "mon", 1, ["a"], ["b"])
        any_store.filesystem.delete_file(any_pages.parts("mon")[1].path)
        with pytest.raises(MissingPartitionsError, match=r"parts \[1\] of generation 1 are missing"):
            any_pages.dataset(["mon"])

    def test_columns_added_by_a_later_release_are_null_before_it(self, tmp_path, pages, scrape):
        scrape(pages, "old", 1, ["a"])
        wider = CONTENTS_SCHEMA.append(pa.field("language", pa.string()))
        table = ParquetStore(str(tmp_path)).table(["shop", "contents"], wider)
        with table.open_part("new", 1, 0) as part:
            part.write(pa.table({**{n: pa.array(["x"]) for n in ("task_id", "url", "content_type", "text", "language")},
                                 "status_code": [200], "content": [b""]}))  # fmt: skip
        table.complete_generation("new", 1, [0])
        rows = table.dataset(["old", "new"]).to_table(columns=["partition", "language"]).to_pylist()
        assert rows == [{"partition": "old", "language": None}, {"partition": "new", "language": "x"}]


class TestGenerations:
    def test_new_generation_is_read_only_once_it_is_complete(self, any_pages, scrape, write_part, urls_of):
        scrape(any_pages, "mon", 1, ["old"])
        write_part(any_pages, "mon", 2, 0, "new")
        assert urls_of(any_pages, "mon") == ["old"]
        any_pages.complete_generation("mon", 2, [0])
        assert urls_of(any_pages, "mon") == ["new"]

    def test_removal_takes_strictly_older_parts(self, any_pages, scrape, write_part):
        scrape(any_pages, "mon", 1, ["a"], ["b"])
        scrape(any_pages, "mon", 2, ["c"])
        write_part(any_pages, "mon", 3, 0, "of a running scrape")
        any_pages.remove_older_generations("mon", 2)
        assert [(part.generation, part.index) for part in any_pages.parts("mon")] == [(2, 0), (3, 0)]

    def test_removal_before_completion_is_refused(self, any_pages, scrape, write_part, urls_of):
        scrape(any_pages, "mon", 1, ["old"])
        write_part(any_pages, "mon", 2, 0, "new")
        with pytest.raises(ParquetStoreError, match=r"'mon'.*generation is not complete"):
            any_pages.remove_older_generations("mon", 2)
        assert urls_of(any_pages, "mon") == ["old"]

    def test_summary_counts_rows_and_bytes(self, any_pages, scrape):
        summary = scrape(any_pages, "mon", 1, ["a", "b"], ["c"])
        assert (summary.generation, summary.indexes, summary.rows) == (1, (0, 1), 3)
        assert summary.bytes == sum(part.bytes for part in any_pages.parts("mon"))
        assert any_pages.current_generation("mon") == summary

    def test_generation_can_be_completed_again_with_more_parts(self, any_pages, scrape, write_part, urls_of):
        scrape(any_pages, "mon", 1, ["a"])
        write_part(any_pages, "mon", 1, 1, "a target that was sent again")
        any_pages.complete_generation("mon", 1, [0, 1])
        assert len(urls_of(any_pages, "mon")) == 2

    def test_part_can_be_written_again(self, any_pages, write_part, urls_of):
        write_part(any_pages, "mon", 1, 0, "first")
        write_part(any_pages, "mon", 1, 0, "second")
        any_pages.complete_generation("mon", 1, [0])
        assert urls_of(any_pages, "mon") == ["second"]

    def test_absent_parts_are_named_and_the_old_data_stay(self, any_pages, scrape, write_part, urls_of):
        scrape(any_pages, "mon", 1, ["old"])
        write_part(any_pages, "mon", 2, 1, "new")
        with pytest.raises(ParquetStoreError, match=r"'mon'.*generation 2: parts \[0, 2\] are missing"):
            any_pages.complete_generation("mon", 2, [0, 1, 2])
        assert urls_of(any_pages, "mon") == ["old"]

    def test_broken_part_is_refused(self, any_pages, any_store, scrape, write_part, urls_of):
        scrape(any_pages, "mon", 1, ["old"])
        write_part(any_pages, "mon", 2, 0, "new")
        with any_store.filesystem.open_output_stream(any_pages.parts("mon")[1].path) as stream:
            stream.write(b"PAR1 and then nothing")
        with pytest.raises(ParquetStoreError, match="not readable Parquet"):
            any_pages.complete_generation("mon", 2, [0])
        assert urls_of(any_pages, "mon") == ["old"]

    def test_older_generation_cannot_take_over(self, any_pages, scrape, write_part):
        scrape(any_pages, "mon", 2, ["new"])
        write_part(any_pages, "mon", 1, 0, "late")
        with pytest.raises(ParquetStoreError, match="generation 2 is already complete"):
            any_pages.complete_generation("mon", 1, [0])

    def test_generation_without_parts_is_refused(self, any_pages):
        with pytest.raises(ParquetStoreError, match="write an empty one"):
            any_pages.complete_generation("mon", 1, [])

    def test_keys_that_share_a_directory_are_refused(self, pages, scrape, tmp_path):
        scrape(pages, "US", 1, ["a"])
        directory = tmp_path / "shop" / "contents"
        # As a disk that ignores case answers for the other key.
        (directory / "partition=us").symlink_to(directory / "partition=US")
        with pytest.raises(ParquetStoreError, match="holds partition 'US', not partition 'us'"):
            pages.dataset(["us"])


class TestFiles:
    def test_names_of_parts(self, any_pages, write_part):
        write_part(any_pages, "mon", 3, 17, "a")
        [part] = any_pages.parts("mon")
        assert part.path.endswith("/shop/contents/partition=mon/part-00003-00017.parquet")
        assert (part.generation, part.index) == (3, 17)
        assert part.bytes > 0

    def test_other_tools_see_the_same_rows(self, pages, scrape, tmp_path):
        scrape(pages, "2026-01-01", 1, ["older"])
        scrape(pages, "2026-01-01", 2, ["a", "b"])
        pages.remove_older_generations("2026-01-01", 2)
        scrape(pages, "é/ü", 1, ["c"])
        directory = tmp_path / "shop" / "contents"
        expected = {("2026-01-01", "a"), ("2026-01-01", "b"), ("é/ü", "c")}
        frame = pd.read_parquet(directory)
        assert set(zip(frame["partition"], frame["url"], strict=True)) == expected
        table = ds.dataset(directory, partitioning="hive").to_table()
        assert set(zip(table["partition"].to_pylist(), table["url"].to_pylist(), strict=True)) == expected

    def test_partition_alone_is_read_by_other_tools(self, pages, scrape):
        scrape(pages, "mon", 1, ["a"], ["b"])
        assert sorted(pd.read_parquet(pages.uri("mon"))["url"]) == ["a", "b"]

    def test_tasks_are_read_by_other_tools(self, tmp_path):
        table = ParquetStore(str(tmp_path)).table(["shop", "tasks"], TASKS_SCHEMA)
        row = {
            "position": 0, "url": "u", "status": "success", "generation": 1, "response_headers": {"Via": "x"},
            "end_time": datetime(2026, 1, 1, tzinfo=timezone.utc),
        }  # fmt: skip
        with table.open_part("mon", 1, 0) as part:
            part.write(pa.RecordBatch.from_pylist([row], schema=TASKS_SCHEMA))
        [read] = pd.read_parquet(tmp_path / "shop" / "tasks").to_dict("records")
        assert read["end_time"] == row["end_time"]
        assert (read["partition"], read["response_headers"]) == ("mon", [("Via", "x")])

    def test_columns_are_described(self, pages, scrape):
        scrape(pages, "mon", 1, ["a"])
        field = pages.dataset(["mon"]).schema.field("url")
        assert field.metadata[b"description"]

    def test_content_is_compressed_without_dictionary_and_statistics(self, pages, write_part):
        write_part(pages, "mon", 1, 0, "a", "b")
        group = pq.read_metadata(pages.parts("mon")[0].path).row_group(0)
        columns = {group.column(i).path_in_schema: group.column(i) for i in range(group.num_columns)}
        assert {column.compression for column in columns.values()} == {"ZSTD"}
        for name, compact in (("content", False), ("text", False), ("url", True), ("content_type", True)):
            assert columns[name].has_dictionary_page == compact
            assert columns[name].is_stats_set == compact

    def test_headers_share_a_dictionary(self, tmp_path):
        table = ParquetStore(str(tmp_path)).table(["shop", "tasks"], TASKS_SCHEMA)
        row = {"position": 0, "url": "u", "status": "s", "generation": 1, "response_headers": {"Server": "nginx"}}
        with table.open_part(None, 1, 0) as part:
            part.write(pa.RecordBatch.from_pylist([row] * 100, schema=TASKS_SCHEMA))
        group = pq.read_metadata(table.parts(None)[0].path).row_group(0)
        headers = [group.column(i) for i in range(group.num_columns) if "headers" in group.column(i).path_in_schema]
        assert [column.has_dictionary_page for column in headers] == [True, True]


class TestWriting:
    @pytest.mark.parametrize(
        "sizes",
        [[MB] * 40, [40 * MB], [100] * 3000, [20 * MB, 1, 20 * MB], [15 * MB, 2 * MB, 15 * MB]],
        ids=["many", "one larger than a row group", "small", "large among small", "uneven"],
    )
    @pytest.mark.parametrize("at_once", [True, False], ids=["in one table", "row by row"])
    def test_row_groups_are_bounded_by_bytes(self, pages, batch_of, sizes, at_once):
        batches = [batch_of(str(n), content=bytes(size)) for n, size in enumerate(sizes)]
        with pages.open_part("mon", 1, 0) as part:
            for rows in [pa.Table.from_batches(batches)] if at_once else batches:
                part.write(rows)
        file = pq.ParquetFile(pages.parts("mon")[0].path)
        groups = [file.metadata.row_group(i) for i in range(file.num_row_groups)]
        assert all(group.total_byte_size < 17 * MB for group in groups if group.num_rows > 1)
        assert len(groups) <= 1 + sum(sizes) // (4 * MB)
        assert part.rows == len(sizes)
        assert file.read(columns=["url"])["url"].to_pylist() == [str(n) for n in range(len(sizes))]

    def test_large_tables_are_written_at_once(self, pages, batch_of):
        with pages.open_part("mon", 1, 0) as part:
            part.write(batch_of("a"))
            assert part.pending_rows == 1
            part.write(batch_of("b", "c", content=bytes(12 * MB)))
            assert part.pending_rows == 0

    def test_columns_may_be_in_any_order_and_types_are_cast(self, pages, batch_of):
        table = pa.table(
            {"content": pa.array([b"x"], pa.binary()), "status_code": pa.array([200], pa.int64()), "url": ["u"],
             "task_id": ["t"], "text": pa.array([None], pa.string()), "content_type": ["text/html"]}
        )  # fmt: skip
        with pages.open_part("mon", 1, 0) as part:
            part.write(table)
        assert pq.read_schema(pages.parts("mon")[0].path).equals(CONTENTS_SCHEMA)

    def test_null_in_a_required_column_is_refused(self, any_pages, batch_of):
        with pytest.raises(ValueError, match="'url'"), any_pages.open_part("mon", 1, 0) as part:
            part.write(batch_of(None))
        assert not any_pages.parts("mon")

    def test_missing_column_is_refused(self, pages, batch_of):
        with pytest.raises(KeyError, match="text"), pages.open_part("mon", 1, 0) as part:
            part.write(batch_of("a").drop_columns(["text"]))

    def test_table_without_schema_is_for_reading(self, pages, scrape, tmp_path, urls_of):
        scrape(pages, "mon", 1, ["a"])
        reader = ParquetStore(str(tmp_path)).table(["shop", "contents"])
        assert urls_of(reader, "mon") == ["a"]
        with pytest.raises(ValueError, match="without a schema"), reader.open_part("mon", 1, 0):
            pass


class TestLocations:
    def test_relative_path_starts_at_the_current_directory(self, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        assert ParquetStore("data").table(["a"]).uri("x") == f"{tmp_path}/data/a/partition=x"

    def test_tilde_is_the_home_directory(self, tmp_path, monkeypatch):
        monkeypatch.setenv("HOME", str(tmp_path))
        assert ParquetStore("~/data").table(["a"]).uri(None) == f"{tmp_path}/data/a"

    def test_uri_shows_no_credentials_and_no_options(self):
        table = ParquetStore("s3://key:secret@bucket/prefix/?region=eu-west-1").table(["a", "b/c"])
        assert table.uri("2026-01-01") == "s3://bucket/prefix/a/b%252Fc/partition=2026-01-01"

    def test_uri_leads_pyarrow_to_the_partition(self, tmp_path, scrape):
        table = ParquetStore(tmp_path.as_uri()).table(["a b", "contents"], CONTENTS_SCHEMA)
        scrape(table, "x/y", 1, ["a"])
        assert pq.read_table(table.uri("x/y"))["url"].to_pylist() == ["a"]

    @pytest.mark.parametrize("key", [[], [""], ["a", ""]])
    def test_key_must_name_something(self, key, tmp_path):
        with pytest.raises(ValueError, match="non-empty"):
            ParquetStore(str(tmp_path)).table(key)

    def test_key_parts_stay_below_the_base(self, any_store, scrape):
        table = any_store.table(["..", "a/b", ".c"], CONTENTS_SCHEMA)
        scrape(table, "..", 1, ["a"])
        assert table.parts("..")[0].path.endswith("/%2E./a%2Fb/%2Ec/partition=%2E./part-00001-00000.parquet")

    def test_nothing_is_opened_before_the_first_use(self, tmp_path):
        ParquetStore(f"{tmp_path}/data").table(["a"], TASKS_SCHEMA)
        ParquetStore("nonsense://bucket").table(["a"], TASKS_SCHEMA)
        assert not list(tmp_path.iterdir())
