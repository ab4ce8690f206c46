"""Targets from a file or an upstream asset: what is read, and the errors if it cannot be read."""

import bz2
import gzip
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import dagster as dg
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from scrapedo_dagster.engine.errors import TargetSourceError
from scrapedo_dagster.engine.targets.target import Target
from scrapedo_dagster.targets import TargetsAsset, TargetsFile

A, B = Target("https://a.example"), Target("https://b.example")
URLS = [A.url, B.url]
CSV = "sku,url,price\n007,https://a.example,1\nNA,https://b.example,2\n"


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., str]:
    """Write a file and give its path."""

    def write(name: str, content: str | bytes) -> str:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return str(path)

    return write


def complaint(source: TargetsFile, partition: str | None = None) -> str:
    with pytest.raises(TargetSourceError) as caught:
        source.read(partition)
    return str(caught.value)


class TestFormats:
    def test_csv_by_its_columns_keys_as_they_are_written(self, write) -> None:
        path = write("urls.csv", "\ufeff" + CSV)
        assert TargetsFile(path).read(None) == [A, B]
        assert TargetsFile(path, key_column="sku").read(None) == [Target(A.url, "007"), Target(B.url, "NA")]
        numbers = write("numbers.csv", "sku,url\n007,https://a.example\n")
        assert TargetsFile(numbers, key_column="sku").read(None) == [Target(A.url, "007")]

    def test_csv_with_quotes_commas_and_line_ends_in_cells(self, write) -> None:
        path = write("urls.csv", 'note,url\r\n"two\r\nlines","https://a.example/?q=1,2"\r\n,https://b.example\r\n')
        assert TargetsFile(path).read(None) == [Target("https://a.example/?q=1,2"), B]

    def test_csv_of_many_blocks_keeps_its_order(self, write) -> None:
        urls = [f"https://example.com/{number}" for number in range(100_000)]
        lines = [f'{url},"two\nlines"\n' for url in urls]  # a block may end within a cell
        targets = TargetsFile(write("urls.csv", "url,note\n" + "".join(lines))).read(None)
        assert [target.url for target in targets] == urls

    @pytest.mark.parametrize(
        ("options", "encoding"),
        [
            ({"delimiter": ";"}, "utf-8"),
            ({"delimiter": ";"}, "utf-8-sig"),
            ({"delimiter": "\t", "encoding": "utf-16"}, "utf-16"),  # Excel's "Unicode text"
            ({"delimiter": "\t", "encoding": "utf-16-le"}, "utf-16-le"),
            ({"delimiter": ";", "encoding": "windows-1252"}, "windows-1252"),
            ({"encoding": "utf-16"}, "utf-16"),
        ],
    )
    def test_csv_as_excel_writes_it(self, write, options, encoding: str) -> None:
        """Quoted cells with line ends, keys with zeros and umlauts, and unnamed columns at the end of each line."""
        rows = [
            ["Größe", "sku", "url", "", ""],
            ['"two\r\nlines"', "007", A.url, "", ""],
            ["ä", "ü1", "https://ö.example", "", ""],
        ]
        text = "".join(options.get("delimiter", ",").join(row) + "\r\n" for row in rows)
        path = write("urls.csv", text.encode(encoding))
        expected = [Target(A.url, "007"), Target("https://ö.example", "ü1")]
        assert TargetsFile(path, key_column="sku", **options).read(None) == expected

    def test_text_in_another_encoding(self, write) -> None:
        path = write("urls.txt", "\n".join(URLS).encode("utf-16"))
        assert TargetsFile(path, encoding="utf-16").read(None) == [A, B]

    @pytest.mark.parametrize("keys", [pa.array([7, 8]), pa.array(["7", "8"]).dictionary_encode()])
    def test_parquet_reads_only_its_columns(self, tmp_path: Path, keys: pa.Array) -> None:
        path = tmp_path / "urls.parquet"
        # A column that cannot be converted to text shows that it is not read.
        pq.write_table(pa.table({"address": URLS, "sku": keys, "other": [[1], [2]]}), path)
        source = TargetsFile(str(path), column="address", key_column="sku")
        assert source.read(None) == [Target(A.url, "7"), Target(B.url, "8")]

    def test_text_without_empty_lines_and_comments(self, write) -> None:
        path = write("urls.txt", "\ufeffhttps://a.example\r\n\r\n  # later: https://c.example\n \thttps://b.example")
        assert TargetsFile(path).read(None) == [A, B]

    @pytest.mark.parametrize(("suffix", "compress"), [("gz", gzip.compress), ("bz2", bz2.compress)])
    def test_compressed_csv_and_text(self, write, suffix: str, compress: Callable[[bytes], bytes]) -> None:
        assert TargetsFile(write(f"u.csv.{suffix}", compress(CSV.encode()))).read(None) == [A, B]
        assert TargetsFile(write(f"u.txt.{suffix}", compress("\n".join(URLS).encode()))).read(None) == [A, B]

    def test_one_column_can_be_the_url_and_the_key(self, write) -> None:
        source = TargetsFile(write("urls.csv", CSV), key_column="url")
        assert source.read(None) == [Target(A.url, A.url), Target(B.url, B.url)]


class TestPlaces:
    @pytest.mark.parametrize("key", ["2026-01-01", "{partition_key}", "{0.x}", "a/b", "Müller & Söhne 100%", "#1?x=y"])
    @pytest.mark.parametrize("as_uri", [False, True], ids=["path", "uri"])
    def test_the_key_of_the_partition_is_put_in_as_it_is(self, write, tmp_path: Path, key: str, as_uri: bool) -> None:
        write(f"{key}.csv", CSV)
        base = tmp_path.as_uri() if as_uri else str(tmp_path)
        assert TargetsFile(f"{base}/{{partition_key}}.csv").read(key) == [A, B]

    def test_dimensions_of_multi_partitions_each_have_a_name(self, write, tmp_path: Path) -> None:
        write("us/{day}.csv", CSV)
        write("us/{day}|us.txt", A.url)
        key = dg.MultiPartitionKey({"day": "{day}", "region": "us"})
        assert TargetsFile(f"{tmp_path}/{{region}}/{{day}}.csv").read(key) == [A, B]
        assert TargetsFile(f"{tmp_path}/{{region}}/{{partition_key}}.txt").read(key) == [A]

    def test_other_braces_mean_nothing(self, write, tmp_path: Path) -> None:
        write("{x}{0}{{y}}.csv", CSV)
        assert TargetsFile(f"{tmp_path}/{{x}}{{0}}{{{{y}}}}.csv").read("key") == [A, B]

    def test_the_suffix_can_come_from_the_key(self, write, tmp_path: Path) -> None:
        write("today.txt", A.url)
        source = TargetsFile(f"{tmp_path}/{{partition_key}}")
        assert source.read("today.txt") == [A]
        assert "'today.xls' has no known suffix" in complaint(source, "today.xls")

    def test_relative_paths_start_at_the_current_directory(self, write, tmp_path: Path, monkeypatch) -> None:
        write("urls.txt", A.url)
        monkeypatch.chdir(tmp_path)
        assert TargetsFile("urls.txt").read(None) == [A]


class TestComplaints:
    def test_a_missing_file_is_named_with_its_partition(self, tmp_path: Path) -> None:
        message = complaint(TargetsFile(f"{tmp_path}/{{partition_key}}.csv"), "2026-01-01")
        assert f"targets file '{tmp_path}/2026-01-01.csv', partition '2026-01-01': does not exist" in message

    @pytest.mark.parametrize("column", [{"column": "link"}, {"key_column": "link"}])
    def test_a_missing_column_is_named_with_those_there_are(self, write, tmp_path: Path, column) -> None:
        pq.write_table(pa.table({"sku": [1], "url": ["x"], "price": [1]}), tmp_path / "urls.parquet")
        for path in (write("urls.csv", CSV), str(tmp_path / "urls.parquet")):
            assert "has no column 'link'. It has 'sku', 'url', 'price'." in complaint(TargetsFile(path, **column))

    @pytest.mark.parametrize("delimiter", [";", "\t", "|"])
    def test_another_delimiter_is_named(self, write, delimiter: str) -> None:
        text = CSV.replace(",", delimiter)
        for content in (text, text.replace(A.url, f"{A.url}/?x=1,2")):  # as many commas as columns, or more
            path = write("urls.csv", content)
            message = complaint(TargetsFile(path))
            assert f"its header is {f'sku{delimiter}url{delimiter}price'!r}, one column with delimiter=','" in message
            assert message.endswith(f"Set delimiter={delimiter!r}.")
            assert TargetsFile(path, delimiter=delimiter).read(None)[1] == B
        assert "Set delimiter=','." in complaint(TargetsFile(write("urls.csv", CSV), delimiter=";"))

    @pytest.mark.parametrize(
        ("encoding", "text", "reason"),
        [
            ("utf-16", CSV, "It begins as UTF-16 does: set encoding='utf-16'."),
            ("windows-1252", CSV.replace("NA", "ä"), "Check delimiter=',' and encoding='utf-8'."),
            ("windows-1252", CSV.replace("sku", "ä"), "Set `encoding` to that of the file"),
        ],
    )
    def test_another_encoding_is_refused_with_the_option_that_reads_it(self, write, encoding, text, reason) -> None:
        path = write("urls.csv", text.encode(encoding))
        key_column = "sku" if "sku" in text else "ä"
        assert reason in complaint(TargetsFile(path, key_column=key_column))
        assert len(TargetsFile(path, key_column=key_column, encoding=encoding).read(None)) == 2

    def test_a_column_that_is_there_twice(self, write) -> None:
        path = write("urls.csv", "url,sku,url,note,note\na,b,c,d,e\n")
        assert "has more than one column 'url'" in complaint(TargetsFile(path))
        assert TargetsFile(path, column="sku").read(None) == [Target("b")]

    @pytest.mark.parametrize("content", ["", "url\n", "sku,url\n"])
    def test_a_csv_file_without_targets(self, write, content: str) -> None:
        path = write("urls.csv", content)
        message = complaint(TargetsFile(path))
        assert path in message
        assert "has no targets" in message or "Empty CSV file" in message

    def test_a_text_file_without_targets(self, write) -> None:
        assert "has no targets" in complaint(TargetsFile(write("urls.txt", "# none\n\n")))

    def test_empty_cells_are_named_by_their_rows(self, write, tmp_path: Path) -> None:
        path = write("urls.csv", 'sku,url\n1,https://a.example\n,\n3,""\n4,https://b.example\n')
        message = complaint(TargetsFile(path, key_column="sku"))
        assert "empty cells: column 'url' in 2, 3 and 'sku' in 2 (rows of data, from 1)" in message
        pq.write_table(pa.table({"url": [A.url] * 99_999 + [None] * 12}), tmp_path / "urls.parquet")
        message = complaint(TargetsFile(str(tmp_path / "urls.parquet")))
        rows = ", ".join(str(row) for row in range(100_000, 100_010))
        assert f"column 'url' in {rows}, and 2 more" in message

    @pytest.mark.parametrize(
        ("name", "content", "reason"),
        [
            ("urls.csv", b"url\nhttps://a.example,1\n", "Expected 1 columns, got 2"),
            ("urls.csv", b"url\n\xe4\n", "UTF8"),
            ("urls.csv", b"\xe4\nhttps://a.example\n", "Set `encoding`"),
            ("urls.txt", b"\xe4\n", "is not utf-8"),
            ("urls.txt", "https://a.example".encode("utf-16"), "set encoding='utf-16'"),
            ("urls.parquet", b"url\n", "cannot be read as parquet"),
            ("urls.csv.gz", b"url\n", "cannot be read as csv"),
        ],
    )
    def test_a_file_that_is_something_else(self, write, name: str, content: bytes, reason: str) -> None:
        path = write(name, content)
        message = complaint(TargetsFile(path))
        assert path in message
        assert reason in message

    def test_a_directory(self, write, tmp_path: Path) -> None:
        write("urls.csv/part", CSV)
        assert "directory" in complaint(TargetsFile(f"{tmp_path}/urls.csv"))

    @pytest.mark.parametrize("uri", ["urls", "urls.xlsx", "s3://bucket/urls?x=.csv", "urls.parquet.gz", "csv"])
    def test_an_unknown_suffix_is_refused_at_definition(self, uri: str) -> None:
        with pytest.raises(ValueError, match=r"ends with \.csv, \.parquet, \.txt"):
            TargetsFile(uri)

    @pytest.mark.parametrize(
        ("uri", "options", "reason"),
        [
            ("urls.txt", {"key_column": "sku"}, "is text, which has no key_column"),
            ("urls.txt", {"delimiter": ";", "column": "link"}, "is text, which has no column, delimiter"),
            ("urls.parquet", {"encoding": "utf-16"}, "is parquet, which has no encoding"),
            ("urls.csv", {"encoding": "utf-7000"}, "encoding='utf-7000' is not known to Python"),
            ("urls.csv", {"delimiter": ";;"}, "at most 1 character"),
            ("urls.csv", {"delimiter": ""}, "at least 1 character"),
        ],
    )
    def test_options_that_do_not_apply_are_refused_at_definition(self, uri, options, reason) -> None:
        with pytest.raises(ValueError, match=reason):
            TargetsFile(uri, **options)

    @pytest.mark.parametrize("uri", ["s3://key:{canary}@bucket/a b.csv", "nope://key:{canary}@x/{{partition_key}}.csv"])
    def test_credentials_in_a_uri_are_not_shown(self, uri: str, canary: str) -> None:
        message = complaint(TargetsFile(uri.format(canary=canary)), "1")
        assert "on no filesystem that pyarrow knows" in message
        assert canary not in message


def frames(columns: dict[str, list[Any]]) -> list[Any]:
    return [pd.DataFrame(columns), pa.table(columns)]


class TestAsset:
    source = TargetsAsset(["shop", "urls"], key_column="sku")

    def complaint(self, value: Any, partition: str | None = None) -> str:
        with pytest.raises(TargetSourceError) as caught:
            self.source.of(value, partition)
        assert "upstream asset 'shop/urls'" in str(caught.value)
        return str(caught.value)

    @pytest.mark.parametrize("key", ["urls", ["shop", "urls"], dg.AssetKey(["shop", "urls"])])
    def test_the_key_is_anything_that_dagster_takes_for_one(self, key) -> None:
        assert TargetsAsset(key).asset_key == dg.AssetKey.from_coercible(key)

    @pytest.mark.parametrize("frame", frames({"sku": [7, 8], "url": URLS, "other": [[1], [2]]}))
    @pytest.mark.parametrize("partition", [None, "2026-01-01"])
    def test_one_frame_serves_every_partition(self, frame, partition) -> None:
        assert self.source.of(frame, partition) == [Target(A.url, "7"), Target(B.url, "8")]

    @pytest.mark.parametrize("frame", frames({"sku": [1, 2, 3], "url": ["x", "y", "z"], "partition": ["a", "b", "a"]}))
    def test_of_a_frame_of_many_partitions_only_the_rows_of_the_partition_count(self, frame) -> None:
        assert self.source.of(frame, "a") == [Target("x", "1"), Target("z", "3")]
        assert self.source.of(frame, "b") == [Target("y", "2")]
        assert len(self.source.of(frame, None)) == 3
        message = self.complaint(frame, "c")
        assert (
            "has no row of 'c', it has 'a', 'b'. Give both assets the same partitions, or rename the column" in message
        )

    def test_a_partition_column_may_be_a_category(self) -> None:
        frame = pd.DataFrame({"sku": [1], "url": ["x"], "partition": pd.Categorical(["a"])})
        assert self.source.of(frame, "a") == [Target("x", "1")]

    def test_of_a_dict_only_the_frame_of_the_partition_counts(self) -> None:
        first, second = frames({"sku": [1], "url": ["x"]})[0], frames({"sku": [2], "url": ["y"]})[1]
        value = {"a": first, "b": second}
        assert self.source.of(value, "b") == [Target("y", "2")]
        assert self.source.of(value, None) == [Target("x", "1"), Target("y", "2")]
        assert "has no partition 'c', it has 'a', 'b'." in self.complaint(value, "c")
        bad = {"a": first, "b": second.drop_columns(["sku"])}
        assert "'shop/urls', partition 'b': has no column 'sku'" in self.complaint(bad, "b")
        assert self.source.of(bad, "a") == [Target("x", "1")]

    def test_no_rows_are_no_targets(self) -> None:
        for frame in frames({"sku": [], "url": [], "partition": []}):
            assert self.source.of(frame, "a") == []

    def test_column_errors_name_the_column(self) -> None:
        for frame in frames({"link": ["x"], "sku": [1]}):
            assert "has no column 'url'. It has 'link', 'sku'." in self.complaint(frame)
        for frame in frames({"url": ["x", None, None], "sku": [1, 2, None]}):
            assert "empty cells: column 'url' in 2, 3 and 'sku' in 3" in self.complaint(frame)
        assert "column 'sku' is list<item: int64>, not text" in self.complaint(pa.table({"url": ["x"], "sku": [[1]]}))
        assert "that are not text" in self.complaint(pd.DataFrame({"url": ["x", 1], "sku": [1, 2]}))
        twice = pd.DataFrame([["x", "y", 1]], columns=["url", "url", "sku"])
        assert "more than one column 'url'" in self.complaint(twice)

    @pytest.mark.parametrize("value", [None, ["https://a.example"], "https://a.example"])
    def test_other_values_are_refused(self, value) -> None:
        assert f"is builtins.{type(value).__name__}, not a pandas DataFrame or a pyarrow Table" in self.complaint(value)


DAYS = dg.DailyPartitionsDefinition("2026-01-04")
WEEKS = dg.WeeklyPartitionsDefinition("2026-01-04")
REGIONS = dg.MultiPartitionsDefinition({"day": DAYS, "region": dg.StaticPartitionsDefinition(["de", "us"])})
START, END = "dagster/asset_partition_range_start", "dagster/asset_partition_range_end"


def listed_in_a_run(
    upstream: dg.PartitionsDefinition | None, downstream: dg.PartitionsDefinition | None, *partitions: str
) -> dict[str | None, list[str]]:
    """The URLs by partition that a run finds, over two partitions if two are given; the upstream gives its keys."""
    source = TargetsAsset("urls")
    found: dict[str | None, list[str]] = {}

    @dg.asset(partitions_def=upstream)
    def urls(context: dg.AssetExecutionContext) -> pd.DataFrame:
        return pd.DataFrame({"url": [context.partition_key if upstream else "all"]})

    @dg.multi_asset(
        specs=[dg.AssetSpec("jobs", deps=["urls"])],
        ins={"upstream": dg.AssetIn("urls")},
        partitions_def=downstream,
        backfill_policy=dg.BackfillPolicy.single_run() if downstream else None,
    )
    def jobs(context: dg.AssetExecutionContext, **inputs: Any) -> None:
        source.check_partitions(context, "upstream")
        for key in context.partition_keys if downstream else [None]:
            found[key] = [target.url for target in source.of(inputs["upstream"], key)]

    run: dict[str, Any] = {"partition_key": partitions[0]} if len(partitions) == 1 else {}
    if len(partitions) == 2:
        run = {"tags": {START: partitions[0], END: partitions[1]}}
    with dg.DagsterInstance.ephemeral() as instance:
        for key in upstream.get_partition_keys()[:14] if upstream else [None]:
            dg.materialize([urls], instance=instance, partition_key=key)
        dg.materialize([urls, jobs], selection=[jobs], instance=instance, **run)
    return found


class TestRuns:
    """With Dagster's own IO manager."""

    def test_the_same_partitions_one_or_many(self) -> None:
        assert listed_in_a_run(DAYS, DAYS, "2026-01-05") == {"2026-01-05": ["2026-01-05"]}
        two = listed_in_a_run(DAYS, DAYS, "2026-01-05", "2026-01-06")
        assert two == {key: [key] for key in ("2026-01-05", "2026-01-06")}
        assert listed_in_a_run(REGIONS, REGIONS, "2026-01-04|us") == {"2026-01-04|us": ["2026-01-04|us"]}

    def test_an_unpartitioned_upstream_serves_every_partition(self) -> None:
        assert listed_in_a_run(None, None) == {None: ["all"]}
        two = ["2026-01-05", "2026-01-06"]
        assert listed_in_a_run(None, DAYS, *two) == {key: ["all"] for key in two}

    def test_an_unpartitioned_dataset_takes_all_partitions(self) -> None:
        regions = dg.StaticPartitionsDefinition(["de", "us"])
        assert listed_in_a_run(regions, None) == {None: ["de", "us"]}

    def test_other_partitions_are_refused_not_taken_in_part(self) -> None:
        """The first day of a week has the key of the week: its seventh of the targets would be taken for all."""
        with pytest.raises(TargetSourceError, match="other partitions than this dataset: '2026-01-04', '2026-01-05'"):
            listed_in_a_run(DAYS, WEEKS, "2026-01-04")


def test_importing_the_sources_loads_neither_pyarrow_nor_pandas() -> None:
    program = "import sys, scrapedo_dagster.targets; assert not {'pandas', 'pyarrow'} & sys.modules.keys()"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
