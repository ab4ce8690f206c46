"""A local Scrape.do Async API: try a pipeline without spending credits, and see it survive bad days.

`Emulator` serves all six operations of the service under `/api/v1`, fetches the targets for real over
HTTP, and plays faults on demand::

    from scrapedo_dagster.emulator import Emulator

    with Emulator(plan="business", token="t", speed=50.0) as emulator:
        client = ...  # any client, with emulator.base_url and emulator.token

On the command line it is `scrapedo-dagster emulator`. What it does follows Scrape.do's documentation; where
that is silent, the variants a client must tolerate can be chosen (`WireStyle`).

It shares no code with the clients of this package, so that it can prove them wrong.
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

# The server needs the `[emulator]` extra, and the command line must start without.
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
