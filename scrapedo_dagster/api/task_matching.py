"""Match the tasks of a job to its targets, by URL and multiplicity.

Scrape.do guarantees neither the order of the tasks nor that it reports URLs unchanged.
"""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Callable, Sequence

import httpx


def normalize_url(url: str) -> str:
    """Return the URL in a normal form, in which two spellings of one URL are equal.

    Lower-case scheme and host, no default port, `/` for an empty path, percent-encoding where needed, no fragment.
    Text that is not a URL is returned unchanged.
    """
    try:
        parsed = httpx.URL(url).copy_with(fragment=None)
        # httpx reports an empty path as "/", but does not write it.
        return str(parsed.copy_with(path="/") if parsed.host and parsed.path == "/" else parsed)
    except (httpx.InvalidURL, ValueError):
        return url


def match_tasks(targets: Sequence[str], task_urls: Sequence[str]) -> list[int | None]:
    """Return for each target the index of its task, or None if it has none.

    Each task is matched at most once. Equal URLs are matched first, then URLs that are equal in normal form. If equally
    many targets and tasks remain, they are matched in order: the service reported their URLs in an unknown form, and
    the order is the only evidence.
    """
    matched: list[int | None] = [None] * len(targets)
    used: set[int] = set()

    def unused() -> list[int]:
        return [index for index in range(len(task_urls)) if index not in used]

    def match_by(key: Callable[[str], str]) -> None:
        waiting: defaultdict[str, deque[int]] = defaultdict(deque)
        for index in unused():
            waiting[key(task_urls[index])].append(index)
        for position, target in enumerate(targets):
            if matched[position] is None and waiting.get(key(target)):
                index = waiting[key(target)].popleft()
                matched[position] = index
                used.add(index)

    match_by(str)
    match_by(normalize_url)
    open_targets = [position for position, index in enumerate(matched) if index is None]
    if len(open_targets) == len(unused()):
        for position, index in zip(open_targets, unused(), strict=True):
            matched[position] = index
    return matched
