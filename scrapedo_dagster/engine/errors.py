"""Every error of the engine, as one tree.

```
EngineError
├── LedgerError                   an operation that the ledger refuses
│   ├── IllegalTransitionError    a transition that the states do not allow: a defect
│   ├── LostClaimError            another worker changed the submission
│   │   └── AlreadyCollectedError another worker collected it before these rows were written
│   ├── LedgerUrlError            not a SQLAlchemy URL
│   └── LedgerSchemaError         written by a newer release
├── SubmissionError               nothing was submitted, or not all of it
│   ├── NotEnoughCreditsError     more credits than there are, or than `max_credits` allows
│   ├── GenerationConflictError   an open generation has other options or targets
│   ├── UnknownOptionsError       the run does not know the options of unsent batches
│   └── NeverArrivesError         sent several times, and certainly did not arrive
├── CollectionError               a partition cannot be collected now
│   ├── JobDeadlineError          its jobs have not ended in time
│   ├── NothingSubmittedError     it was never submitted, or was canceled
│   └── JobNotEndedError          a job that counted as ended is still running
├── InvalidTargetsError           some targets cannot be scraped
├── TargetSourceError             the source of the targets cannot be read
├── ParquetStoreError             the files of a dataset are not in the expected state
│   └── MissingPartitionsError    some partitions have no complete data
└── WebhookError                  a webhook's URL or secret cannot be used
```

Errors of the service are those of `scrapedo_dagster.api.errors`. No message holds a secret.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from scrapedo_dagster.text import join_limited, partition_label


class EngineError(Exception):
    """Base of every error of the engine.

    Attributes:
        transient: whether a retry may succeed. False only where a person must change something first.
    """

    transient: ClassVar[bool] = True


class LedgerError(EngineError):
    """The ledger refuses an operation; the message says what to do."""


class IllegalTransitionError(LedgerError):
    """The requested state does not follow the current one: a defect in the program."""


class LostClaimError(LedgerError):
    """The submission is no longer in the state in which it was read: another worker changed it."""


class AlreadyCollectedError(LostClaimError):
    """Another worker collected the submission first. The rows of this one were not written."""


class LedgerUrlError(LedgerError, ValueError):
    """The text is not a SQLAlchemy URL. The message does not repeat it: it may hold a password."""

    transient = False


class LedgerSchemaError(LedgerError):
    """The database's schema cannot be upgraded to that of this release."""

    transient = False


class SubmissionError(EngineError):
    """Targets were not submitted, or not all of them."""


class NotEnoughCreditsError(SubmissionError):
    """The targets cost more than the account has, or than `max_credits` allows. Nothing was submitted."""

    transient = False


class GenerationConflictError(SubmissionError):
    """The unsent batches of an open generation would be sent with options for other targets."""

    transient = False


class UnknownOptionsError(SubmissionError):
    """Batches of an ad-hoc list are unsent, and this run does not know all options that they were submitted with."""

    transient = False


class NeverArrivesError(SubmissionError):
    """A batch was sent several times and certainly did not arrive, although a connection was made each time."""


class CollectionError(EngineError):
    """A partition cannot be collected now."""


class JobDeadlineError(CollectionError):
    """The jobs of a partition have not ended in time, or were not submitted in time. Nothing is lost."""


class NothingSubmittedError(CollectionError):
    """There is nothing to collect: the partition was never submitted, or was canceled."""

    transient = False


class JobNotEndedError(CollectionError):
    """A job that counted as ended is still running."""


class InvalidTargetsError(EngineError, ValueError):
    """Some targets cannot be scraped. Nothing was submitted.

    Attributes:
        reasons: for each invalid target its position in the list, from 0, and what is wrong with it.
    """

    transient = False

    def __init__(self, amount: int, reasons: dict[int, str]) -> None:
        listed = join_limited((f"[{position}] {reason}" for position, reason in reasons.items()), separator="; ")
        super().__init__(
            f"{len(reasons)} of {amount} targets are no URLs that Scrape.do can fetch, so nothing was submitted and "
            f"nothing charged. Correct or leave out, by position: {listed}"
        )
        self.reasons = reasons


class TargetSourceError(EngineError):
    """The targets of a partition cannot be read from their source. Nothing was submitted."""


class ParquetStoreError(EngineError):
    """The files of a dataset are not in the expected state."""


class MissingPartitionsError(ParquetStoreError):
    """Some partitions have no complete data.

    Attributes:
        reasons: for each of these partitions what was found, and where.
    """

    def __init__(self, table: str, reasons: Mapping[str | None, str]) -> None:
        partitions = (f"{partition_label(partition)}: {reason}" for partition, reason in reasons.items())
        super().__init__(f"cannot read {table}: {join_limited(partitions, separator='; ')}")
        self.reasons = dict(reasons)


class WebhookError(EngineError, ValueError):
    """A webhook's URL or secret cannot be used. The message never holds the secret."""

    transient = False
