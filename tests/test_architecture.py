"""Imports point one way, and the exact dependencies come from nowhere in particular."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "scrapedo_dagster"

ROOMS = [
    ["cli", "demo"],
    ["__init__"],
    ["component"],
    ["ad_hoc"],
    ["assets", "ops"],
    ["checks", "schedules", "sensors"],
    ["execution"],
    ["ops_config"],
    ["dataset"],
    ["translator", "targets"],
    ["dataset_options"],
    ["resource", "io_manager"],
    ["execution.loading"],
    ["partitions"],
    ["webhooks"],
    ["engine.collection"],
    ["engine.submission"],
    ["engine.polling"],
    ["engine.inbox"],
    ["engine.webhook_address"],
    ["engine.ledger"],
    ["engine.targets"],
    ["engine.storage"],
    ["engine.threads", "engine.clock"],
    ["engine.errors"],
    ["engine"],
    ["api"],
    ["emulator"],
    ["text", "_version"],
]
"""The rooms of the package, from top to bottom. A file imports only from its own row's room, and from rows below."""

WITHOUT_DAGSTER = ["api", "engine", "webhooks", "emulator"]


def modules_of(part: str) -> list[Path]:
    return sorted((PACKAGE / part).rglob("*.py"))


def name_of(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


FILES = {name_of(path): path for path in sorted(PACKAGE.rglob("*.py"))}


def room_of(module: str) -> tuple[int, str]:
    """The row and the name of the room that a file is in: the longest name that fits."""
    below = module.removeprefix("scrapedo_dagster").removeprefix(".") or "__init__"
    rooms = [(row, room) for row, names in enumerate(ROOMS) for room in names if is_below(below, room)]
    return max(rooms, key=lambda found: len(found[1]))


def imports_of(path: Path) -> Iterator[tuple[int, str]]:
    """Line and full name of everything that the module imports, anywhere in it."""
    package = ".".join(path.relative_to(ROOT).parent.parts)
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package.rsplit(".", node.level - 1)[0] if node.level > 1 else package
            base = ".".join(filter(None, [above, node.module])) if node.level else node.module or ""
            yield from ((node.lineno, f"{base}.{alias.name}") for alias in node.names)
        elif isinstance(node, ast.Call) and isinstance(node.func, (ast.Name, ast.Attribute)):
            name = node.func.id if isinstance(node.func, ast.Name) else node.func.attr
            first = node.args[0] if node.args else None
            if name in {"import_module", "__import__"} and isinstance(first, ast.Constant):
                yield node.lineno, str(first.value)


def is_below(name: str, package: str) -> bool:
    return name == package or name.startswith(f"{package}.")


@cache
def imported_files(module: str) -> set[str]:
    """The files of the package that a file imports, also for types alone."""
    names = {name for _, name in imports_of(FILES[module]) if is_below(name, "scrapedo_dagster")}
    # `from package import name` is of the module `package.name`, or of a name in `package`.
    return {name if name in FILES else name.rpartition(".")[0] for name in names} - {module}


def test_every_file_is_in_a_room_and_every_room_has_a_file() -> None:
    assert len(FILES) > 100
    assert {room_of(module)[1] for module in FILES} == {room for names in ROOMS for room in names}


def test_imports_point_down() -> None:
    wrong = [
        f"{module} imports {each}, which is not below it"
        for module in FILES
        for each in imported_files(module)
        if room_of(each)[1] != room_of(module)[1] and room_of(each)[0] <= room_of(module)[0]
    ]
    assert wrong == []


def test_no_files_import_each_other_in_a_circle() -> None:
    """Also for types alone."""
    graph = {module: imported_files(module) & set(FILES) for module in FILES}
    try:
        order = list(TopologicalSorter(graph).static_order())
    except CycleError as error:
        pytest.fail(f"these files import each other in a circle: {error.args[1]}")
    assert set(order) == set(FILES)


@pytest.mark.parametrize("part", WITHOUT_DAGSTER)
def test_lower_parts_do_not_import_dagster(part: str) -> None:
    wrong = [
        f"{path.relative_to(ROOT)}:{line} imports {name}"
        for path in modules_of(part)
        for line, name in imports_of(path)
        if is_below(name, "dagster")
    ]
    assert wrong == []


def test_the_emulator_shares_nothing_with_the_client() -> None:
    """A server that shares the client's models would prove nothing about the client."""
    shared = {name for path in modules_of("emulator") for name in imported_files(name_of(path))}
    assert {room_of(name)[1] for name in shared} <= {"emulator", "_version"}


IMPORT_ALL = """
import importlib, pathlib, sys, types

root, part = pathlib.Path(sys.argv[1]), sys.argv[2]
package = types.ModuleType("scrapedo_dagster")  # the public names in its place would import Dagster
package.__path__ = [str(root / "scrapedo_dagster")]
sys.modules["scrapedo_dagster"] = package
for path in sorted((root / "scrapedo_dagster" / part).rglob("*.py")):
    if path.stem not in {"__main__", "env"}:  # programs, the second one of Alembic's
        importlib.import_module(".".join(path.relative_to(root).with_suffix("").parts).removesuffix(".__init__"))
print("imported", f"scrapedo_dagster.{part}" in sys.modules)
print(sorted(name for name in sys.modules if name.partition(".")[0] in {"dagster", "dagster_shared"}))
"""


@pytest.mark.parametrize("part", WITHOUT_DAGSTER)
def test_lower_parts_work_without_dagster(part: str) -> None:
    command = [sys.executable, "-c", IMPORT_ALL, str(ROOT), part]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    assert (done.stdout, done.stderr) == ("imported True\n[]\n", "")


def test_imports_are_found_in_every_form() -> None:
    """The two tests above would pass in silence if they read nothing."""
    found = {name for path in modules_of("api") for _, name in imports_of(path)}
    assert {"httpx", "json", "scrapedo_dagster.api.errors.ScrapeDoError"} <= found


@pytest.fixture
def tracked() -> list[Path]:
    """The files of the repository, or of the source distribution where there is no repository."""
    listing = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=False)
    if listing.returncode:
        return [path for path in [*ROOT.glob("*.*"), *PACKAGE.rglob("*.py")] if path.is_file()]
    return [path for name in listing.stdout.decode().split("\0") if name and (path := ROOT / name).is_file()]


# Written apart, so that this file does not hold them itself.
INDEX_OPTION = re.compile(
    "--(?:extra-" + "index|index|default-" + r"index)(?:-url)?[\s=]+\S*://|find-" + r"links[\s=]+\S+"
)
INDEX_SETTING = re.compile(
    r"^\s*(?:extra-)?index[-_]" + r"url\s*=|\[\[tool\.uv\." + "index|PIP_INDEX_" + "URL|UV_(?:DEFAULT_)?INDEX", re.M
)
INDEX_ADDRESS = re.compile(r"https?://[^\s\"'<>)]*(?:/" + r"simple(?:/|\b)|files\.python" + r"hosted\.org|/api/pypi/)")


@pytest.mark.parametrize("pattern", [INDEX_OPTION, INDEX_SETTING, INDEX_ADDRESS], ids=["option", "setting", "address"])
def test_no_file_names_a_package_registry(tracked: list[Path], pattern: re.Pattern[str]) -> None:
    assert len(tracked) > 10
    wrong = [
        f"{path.relative_to(ROOT)}: {match.group()}"
        for path in tracked
        for match in pattern.finditer(path.read_text(encoding="utf-8", errors="replace"))
    ]
    assert wrong == []


def test_registry_addresses_would_be_found() -> None:
    assert INDEX_OPTION.search("--index-" + "url https://pypi.example/x")
    assert INDEX_SETTING.search("[pip]\nindex-" + "url = https://pypi.example/x")
    assert INDEX_ADDRESS.search("https://pypi.example/" + "simple/httpx")
    assert INDEX_ADDRESS.search("https://files.python" + "hosted.org/packages/x.whl")


def test_every_dependency_is_pinned_to_one_version() -> None:
    lines = (ROOT / "requirements.lock").read_text(encoding="utf-8").splitlines()
    pins = [line for line in lines if line.strip() and not line.startswith("#")]
    assert len(pins) > 50
    pinned = re.compile(r"[A-Za-z0-9._-]+(?:\[[A-Za-z0-9,._-]+\])?==[A-Za-z0-9.+!]+(?: ; .+)?")
    assert [line for line in pins if not pinned.fullmatch(line)] == []


def test_every_file_that_the_architecture_page_names_exists() -> None:
    page = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    named = set(re.findall(r"`((?:[a-z_]+/)*[a-z_]+(?:\.py|/))`", page))
    assert len(named) > 20
    assert [name for name in sorted(named) if not (PACKAGE / name).exists() and not (ROOT / name).exists()] == []
