"""A worker is killed at every point of its way, and the next one goes on: nothing is paid twice, nothing is lost.

A first run records the points; then each is a run of its own that dies there, by `os._exit` or SIGKILL, and a second
run that is left alone. The second one does what a person does who finds a run dead: materialize the partition again;
or, if everything is there already, let Dagster repeat the last step.
"""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import dataclass, field
from typing import Any
from zlib import crc32

import pytest

SHARDS = 8  # for pytest-xdist
LOST_ANSWER = {"calls": [{"endpoint": "create_job", "kind": "drop", "when": "after", "times": 1}]}


@dataclass(frozen=True)
class Scenario:
    """`until`: the sweep ends there, because what comes after is as in another scenario."""

    database: str
    by: str
    faults: dict[str, Any] = field(default_factory=dict)
    until: str | None = None

    def has(self, point: str) -> bool:
        """SIGKILL, after exit at every point, at half of them."""
        return self.by != "SIGKILL" or kind_of("either", point) == "SIGKILL"

    def __str__(self) -> str:
        return f"{self.database}, {self.by}{', a lost answer' if self.faults else ''}"


SCENARIOS = [
    Scenario("sqlite", "exit"),
    Scenario("sqlite", "SIGKILL"),
    Scenario("sqlite", "either", LOST_ANSWER, until="before open part"),
    Scenario("postgres", "either"),
    Scenario("postgres", "either", LOST_ANSWER, until="before open part"),
]


@pytest.mark.slow
@pytest.mark.parametrize("shard", range(SHARDS))
@pytest.mark.parametrize(
    "scenario",
    SCENARIOS,
    ids=lambda scenario: f"{scenario.database}, {scenario.by}" + ", a lost answer" * bool(scenario.faults),
)
def test_killed_anywhere_everything_is_submitted_once_and_collected(works, request, scenario, shard):
    server = request.getfixturevalue("postgres") if scenario.database == "postgres" else None
    sweep(works, server, scenario, lambda point: crc32(point.encode()) % SHARDS == shard and scenario.has(point))


@pytest.mark.slow
def test_killed_here_and_there_everything_is_submitted_once_and_collected(works):
    sweep(works, None, Scenario("sqlite", "either"), lambda point: crc32(point.encode()) % 24 == 0)


def sweep(works, server, scenario, is_chosen):
    began = time.monotonic()
    with works.new(server, **scenario.faults) as undisturbed:
        points, files = record(undisturbed)
    assert len(points) > 240, "the sweep has lost most of its points"
    end = points.index(f"{scenario.until} #1") if scenario.until else len(points)
    chosen = [point for point in points[:end] if is_chosen(point)]
    problems, not_reached = {}, []
    for point in chosen:
        with works.new(server, **scenario.faults) as work:
            work.run(deadly=point, by=kind_of(scenario.by, point))
            if work.ends == [0]:
                not_reached.append(point)
            if found := problems_of(work, files):
                problems[point] = [*found, work.log]
    # How often a job is asked for differs from run to run; and, since batches are written in threads, how many
    # connections to the ledger that takes, and how often a file meets a cleaner before it is locked, is removed and
    # opened anew. Nothing else.
    assert {point.partition(" ")[2].partition(" #")[0] for point in not_reached} <= {
        "GET /jobs/*",
        "open part",
        "unlink part",
        "to the ledger",
    }
    seconds = (time.monotonic() - began) / max(len(chosen), 1)
    print(f"{scenario}: died at {len(chosen) - len(not_reached)} of {end} points, {seconds:.2f} s each")
    assert not problems, "\n".join(f"{point}: {found}" for point, found in problems.items())


def kind_of(by, point):
    if by != "either":
        return by
    return "SIGKILL" if crc32(point.encode()) // SHARDS % 2 else "exit"


def record(work):
    """The points of a run that nothing disturbs, and the files that it leaves."""
    work.run()
    assert work.ends == [0], work.log
    assert work.submitted == once(work)
    assert work.states == {"collected": 4}
    assert work.is_complete
    assert sorted(work.urls) == sorted(work.targets)
    return work.trail, work.files


def once(work):
    """How often each target has to be submitted: once, and again if it failed."""
    return {url: 2 if url.endswith("/broken") else 1 for url in work.targets if url.startswith("http")}


def problems_of(work, files):
    """What is not as it should be after the next run; nothing, if all is well."""
    problems = []
    if work.ends[0] not in {0, 99, -9}:
        problems.append(f"the first run ended as {work.ends[0]}")
    if mixture := mixture_in(work):
        problems.append(mixture)
    if broken := work.broken_parts:
        problems.append(f"half-written parts after the death: {broken}")
    work.run(steps="bring" if work.is_complete else "submit bring")
    if work.ends[1] != 0:
        problems.append(f"the next run ended as {work.ends[1]}")
    if work.submitted != once(work):
        problems.append(f"submitted {work.submitted}")
    if (states := work.states) != {"collected": 4}:
        problems.append(f"the ledger has {dict(states)}")
    if (found := work.files) != files:
        problems.append(f"other files: {difference(found, files)}")
    return problems


def mixture_in(work):
    """What a reader finds after the death, if it is not the old data or the new ones."""
    urls, with_content = Counter(work.urls), Counter(work.urls_with_content)
    fetched = Counter({url: 1 for url in work.targets if url.startswith("http") and not url.endswith("/broken")})
    old = Counter({"old": 2})
    # `tasks` are completed last: who sees them finds their contents.
    if (urls, with_content) in [(old, old), (old, fetched), (Counter(work.targets), fetched)]:
        return None
    return f"a reader found {urls} and the contents of {with_content}"


def difference(found, expected):
    names = sorted(found.keys() | expected.keys())
    return {name: (found.get(name), expected.get(name)) for name in names if found.get(name) != expected.get(name)}
