"""Which task belongs to which target.

The service promises neither that task i belongs to target i nor that it echoes a URL letter by letter
(scrape.do's documentation is silent), so tasks are matched by URL and multiplicity.
"""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Callable, Sequence

import httpx


def normalize_url(url: str) -> str:
    """The URL with what servers like to change made equal.

    Lower-case scheme and host, no default port, `/` for an empty path, percent-encoding where it is needed, no
    fragment. A text that is no URL comes back as it is.
    """
    try:
        parsed = httpx.URL(url).copy_with(fragment=None)
        # An empty path is "/" to httpx, and still not written.
        return str(parsed.copy_with(path="/") if parsed.host and parsed.path == "/" else parsed)
    except (httpx.InvalidURL, ValueError):
        return url


def match_tasks(targets: Sequence[str], task_urls: Sequence[str]) -> list[int | None]:
    """For each target the index of its task, or None where it has none.

    Every task is used at most once. Equal URLs are matched first, then URLs that are equal once normalised. What
    is left over is matched in order if it is as many targets as tasks: the service then echoed URLs in a form we
    do not know, and order is the only evidence.
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
