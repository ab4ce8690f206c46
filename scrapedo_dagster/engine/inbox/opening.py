"""Opens the inbox at a URI."""

from __future__ import annotations

from scrapedo_dagster.engine.inbox.protocol import Inbox
from scrapedo_dagster.engine.ledger.ledger import Ledger


def open_inbox(uri: str | None, ledger: Ledger | None, *, for_reading: bool = False) -> Inbox:
    """The inbox at a path or a URI of any filesystem that pyarrow knows, or in the database of the ledger.

    Nothing is reached before it is used. Where it is `for_reading`, an inbox that does not answer in a few seconds
    counts as one that cannot be reached.

    Raises:
        ValueError: neither is given, or pyarrow knows no filesystem for the URI.
    """
    if uri is not None:
        from scrapedo_dagster.engine.inbox.files import FileInbox, TimeLimitedFileInbox

        return TimeLimitedFileInbox(uri) if for_reading else FileInbox(uri)
    if ledger is None:
        raise ValueError("An inbox needs the URI of a directory, or a ledger in whose database it is.")
    from scrapedo_dagster.engine.inbox.table import TableInbox

    return TableInbox(ledger)
