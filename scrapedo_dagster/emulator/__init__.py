"""A local Scrape.do Async API, to try pipelines without spending credits and to test them with faults.

`Emulator` serves the six operations of the service under `/api/v1`, fetches the targets over HTTP, and injects faults
on demand::

    from scrapedo_dagster.emulator import Emulator

    with Emulator(plan="business", token="t", speed=50.0) as emulator:
        client = ...  # any client, with emulator.base_url and emulator.token

The command is `scrapedo-dagster emulator`. The emulator follows Scrape.do's documentation. Where the documentation is
silent, `WireStyle` selects the variants that a client must tolerate.

It shares no code with the clients of this package, so that the two can disagree.
"""

from lazy_loader import attach_stub

__getattr__, __dir__, __all__ = attach_stub(__name__, __file__)
