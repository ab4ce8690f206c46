"""Groups targets into batches, each of which becomes one job."""

from __future__ import annotations

from scrapedo_dagster.api.requests import MAX_TARGETS
from scrapedo_dagster.engine.targets.target import Batch, Entry


def split_into_batches(entries: Batch, size: int = MAX_TARGETS) -> list[Batch]:
    """Split entries into batches of up to `size` different URLs, in the order of the list.

    All entries of a URL are in one batch. Rejected entries are in the last batch. Without entries there is one empty
    batch.
    """
    by_url: dict[str, list[Entry]] = {}
    for entry in entries:
        if entry.rejected is None:
            by_url.setdefault(entry.url, []).append(entry)
    urls = list(by_url)
    batches = [
        [entry for url in urls[first : first + size] for entry in by_url[url]]
        for first in range(0, max(len(urls), 1), size)
    ]
    batches[-1] += [entry for entry in entries if entry.rejected is not None]
    return [tuple(sorted(batch, key=lambda entry: entry.position)) for batch in batches]
