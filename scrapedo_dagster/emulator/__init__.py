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

from typing import TYPE_CHECKING

from scrapedo_dagster._lazy import lazy_names
from scrapedo_dagster.emulator.faults import CallFault, Faults, FaultsError, JobFault, TargetFault, WireStyle
from scrapedo_dagster.emulator.settings import DEFAULT_TOKEN, EmulatorSettings, EmulatorSettingsError

if TYPE_CHECKING:
    from scrapedo_dagster.emulator.server import Emulator, PortInUseError, serve
    from scrapedo_dagster.emulator.state import JobRecord, TargetCount

__all__ = [
    "DEFAULT_TOKEN",
    "CallFault",
    "Emulator",
    "EmulatorSettings",
    "EmulatorSettingsError",
    "Faults",
    "FaultsError",
    "JobFault",
    "JobRecord",
    "PortInUseError",
    "TargetCount",
    "TargetFault",
    "WireStyle",
    "serve",
]

# The server needs the `[emulator]` extra; the command line must start without it.
__getattr__ = lazy_names(
    __name__,
    {
        "Emulator": "server",
        "JobRecord": "state",
        "PortInUseError": "server",
        "TargetCount": "state",
        "serve": "server",
    },
)
