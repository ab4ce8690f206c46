"""Two workers begin one partition in the same moment: each batch is submitted by one of them, and both end well."""

from __future__ import annotations

import pytest

pytestmark = pytest.mark.slow

TIMES = {"submit": 50, "submit bring": 15}
DATABASES = ["sqlite", "postgres"]


@pytest.mark.parametrize("steps", TIMES)
@pytest.mark.parametrize("database", DATABASES)
def test_two_workers_share_the_batches_of_a_partition(works, request, database, steps):
    server = request.getfixturevalue("postgres") if database == "postgres" else None
    for time in range(TIMES[steps]):
        meet(works, server, steps, f"time {time}")


def test_two_workers_at_once_submit_each_target_once(works):
    for time in range(5):
        meet(works, None, "submit bring", f"time {time}")


def meet(works, server, steps, when):
    with works.new(server) as work:
        work.run(steps=steps, at_once=2)
        assert work.ends == [0, 0], f"{when}: {work.log}"
        # What failed is submitted again once it has been collected.
        failed = 2 if "bring" in steps else 1
        expected = {url: failed if url.endswith("/broken") else 1 for url in work.targets if url.startswith("http")}
        assert work.submitted == expected, when
        assert len(work.emulator.jobs()) == (4 if "bring" in steps else 3), when
        if "bring" in steps:
            assert sorted(work.urls) == sorted(work.targets), when
            assert work.states == {"collected": 4}, when
            assert work.is_complete, when
