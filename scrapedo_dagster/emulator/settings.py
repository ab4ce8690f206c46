"""What an emulator is: its plan, token, speed and address. Fixed for its lifetime; faults are not (`faults.py`)."""

from __future__ import annotations

import ipaddress
import math
from dataclasses import dataclass, field
from typing import Final, Literal, get_args

from scrapedo_dagster.emulator.faults import Faults

Plan = Literal["free", "hobby", "pro", "business", "advanced"]

DEFAULT_TOKEN: Final = "emulator-token"  # noqa: S105 - a documented default of a local server, not a secret
DEFAULT_PORT: Final = 8765


@dataclass(frozen=True)
class PlanLimits:
    """`concurrency`: slots of the async pool, ceil(0.3 x plan), documented. `credits`: a month's credits."""

    concurrency: int
    credits: int


# The credits are those of the public price list; the Async API's documentation does not state them.
PLANS: Final[dict[str, PlanLimits]] = {
    "free": PlanLimits(2, 1_000),
    "hobby": PlanLimits(2, 250_000),
    "pro": PlanLimits(5, 1_250_000),
    "business": PlanLimits(12, 3_500_000),
    "advanced": PlanLimits(60, 10_000_000),
}


class EmulatorSettingsError(ValueError):
    """A setting has a value that the emulator cannot use. The message names the setting, the value and the rule."""


@dataclass(frozen=True)
class EmulatorSettings:
    """Everything an emulator needs to know before it starts.

    plan: sets the size of the concurrency pool and the credits.
    token: what clients must send as `X-Token`. Never printed or logged.
    speed: divides the emulator's own waiting times (`queue_seconds`, `processing_seconds`, lingering
        statuses). Fetching takes as long as it takes, and timeouts and the clock are not scaled.
    credits: credits to start with; the plan's by default.
    faults: what goes wrong from the start.
    host, port: where to listen. Port 0 takes a free port. On anything but loopback the admin endpoints are
        off and private addresses are not fetched.
    queue_seconds: how long a new job stays in `queuing`, in seconds before `speed`.
    processing_seconds: the least time that a task holds its slot, in seconds before `speed`.
    webhook_retry_seconds: waits, by the emulator's clock, before the repeats of a webhook that timed out or
        was answered with anything but 2xx, 404 and 410. The service does not document its steps.
    """

    plan: Plan = "business"
    token: str = field(default=DEFAULT_TOKEN, repr=False)
    speed: float = 1.0
    credits: int | None = None
    faults: Faults = field(default_factory=Faults)
    host: str = "127.0.0.1"
    port: int = 0
    queue_seconds: float = 0.5
    processing_seconds: float = 1.0
    webhook_retry_seconds: tuple[float, ...] = (60.0, 300.0, 1800.0)

    def __post_init__(self) -> None:
        """Refuse what cannot work, before a port is opened."""
        if self.plan not in PLANS:
            raise EmulatorSettingsError(f"plan is {self.plan!r}; it must be one of {', '.join(get_args(Plan))}")
        if not self.token:
            raise EmulatorSettingsError("token is empty; clients must have something to send as X-Token")
        if self.token == DEFAULT_TOKEN and not self.is_private:
            raise EmulatorSettingsError(
                f"host is {self.host!r}, which others can reach, and token is the documented default: anyone could "
                "fetch through this emulator; choose a token of your own"
            )
        if not (self.speed > 0 and math.isfinite(self.speed)):
            raise EmulatorSettingsError(f"speed is {self.speed}; it must be a number above 0, such as 1 or 50")
        if self.credits is not None and self.credits < 0:
            raise EmulatorSettingsError(f"credits is {self.credits}; it must not be negative")
        if not 0 <= self.port <= 65535:
            raise EmulatorSettingsError(f"port is {self.port}; it must be from 0 (any free port) to 65535")
        for name in ("queue_seconds", "processing_seconds"):
            if getattr(self, name) < 0:
                raise EmulatorSettingsError(f"{name} is {getattr(self, name)}; it must not be negative")
        if any(wait < 0 for wait in self.webhook_retry_seconds):
            raise EmulatorSettingsError("webhook_retry_seconds has a negative wait; each must be 0 or more seconds")

    @property
    def concurrency(self) -> int:
        """Slots of the pool that all jobs share."""
        return PLANS[self.plan].concurrency

    @property
    def starting_credits(self) -> int:
        """Credits of the account when the emulator starts."""
        return PLANS[self.plan].credits if self.credits is None else self.credits

    @property
    def is_private(self) -> bool:
        """Whether only this machine can reach the emulator: then it may fetch private addresses and be administered."""
        if self.host == "localhost":
            return True
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return False

    def scaled(self, seconds: float) -> float:
        """`seconds` of the emulator's own waiting, in real seconds."""
        return seconds / self.speed
