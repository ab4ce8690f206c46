"""Settings of an emulator: plan, token, speed and address. Only its faults can change later (`faults.py`)."""

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
    """`concurrency`: slots of the Async API, ceil(0.3 x plan), as documented. `credits`: credits of a month."""

    concurrency: int
    credits: int


# Credits are those of the public price list.
PLANS: Final[dict[str, PlanLimits]] = {
    "free": PlanLimits(2, 1_000),
    "hobby": PlanLimits(2, 250_000),
    "pro": PlanLimits(5, 1_250_000),
    "business": PlanLimits(12, 3_500_000),
    "advanced": PlanLimits(60, 10_000_000),
}


class EmulatorSettingsError(ValueError):
    """A setting is invalid. The message names the setting, the value and the rule."""


@dataclass(frozen=True)
class EmulatorSettings:
    """Settings of an emulator.

    plan: sets concurrency and credits.
    token: token that clients must send as `X-Token`. Never printed or logged.
    speed: divides the waiting times of the emulator: `queue_seconds`, `processing_seconds`, and seconds of faults of
        targets and deliveries. Fetches, timeouts and the clock are not affected.
    credits: initial credits; by default those of the plan.
    faults: faults that are active from the start.
    host, port: address to listen on; port 0 selects a free port. Beyond loopback the admin endpoints are off and
        private addresses are not fetched.
    queue_seconds: how long a new job stays in `queuing`, in seconds, divided by `speed`.
    processing_seconds: minimum time that a task occupies its slot, in seconds, divided by `speed`.
    webhook_retry_seconds: waits before retries of a webhook, in seconds of the emulator clock, after timeouts and
        responses other than 2xx, 404 and 410. Scrape.do does not document its waits.
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
        """Validate the settings. Raises EmulatorSettingsError."""
        if self.plan not in PLANS:
            raise EmulatorSettingsError(f"plan is {self.plan!r}; it must be one of {', '.join(get_args(Plan))}")
        if not self.token:
            raise EmulatorSettingsError("token is empty; clients must send one as X-Token")
        if self.token == DEFAULT_TOKEN and not self.is_private:
            raise EmulatorSettingsError(
                f"host is {self.host!r}, which other machines can reach, and token is the documented default: anyone "
                "could fetch through this emulator; set another token"
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
        """Slots that all jobs share."""
        return PLANS[self.plan].concurrency

    @property
    def starting_credits(self) -> int:
        """Credits when the emulator starts."""
        return PLANS[self.plan].credits if self.credits is None else self.credits

    @property
    def is_private(self) -> bool:
        """Whether only this machine can reach it. If so, private addresses are fetched and admin endpoints are on."""
        if self.host == "localhost":
            return True
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return False

    def scaled(self, seconds: float) -> float:
        """Return a waiting time of the emulator in real seconds."""
        return seconds / self.speed
