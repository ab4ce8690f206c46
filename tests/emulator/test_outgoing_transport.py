"""An emulator that other machines can reach does not give them access to private addresses."""

from __future__ import annotations

import socket
from typing import Any

import httpx
import pytest

from scrapedo_dagster.emulator import EmulatorSettings, EmulatorSettingsError
from scrapedo_dagster.emulator.outgoing_transport import PrivateAddressError, PublicOnlyTransport, is_public


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1",
        "127.8.9.1",
        "0.0.0.0",
        "10.1.2.3",
        "172.16.0.1",
        "192.168.1.1",
        "169.254.169.254",
        "100.64.0.1",
        "192.0.0.1",
        "198.18.0.1",
        "224.0.0.1",
        "240.0.0.1",
        "255.255.255.255",
        "::",
        "::1",
        "fc00::1",
        "fe80::1",
        "fe80::1%eth0",
        "ff02::1",
        "2001:db8::1",
        "::ffff:127.0.0.1",
        "::ffff:10.0.0.1",
        "64:ff9b::7f00:1",
        "64:ff9b::a9fe:a9fe",
        "2002:7f00:1::",
    ],
)
def test_these_addresses_are_not_public(address: str) -> None:
    assert not is_public(address)


@pytest.mark.parametrize("address", ["93.184.216.34", "1.1.1.1", "2606:4700:4700::1111", "::ffff:1.1.1.1"])
def test_these_addresses_are_public(address: str) -> None:
    assert is_public(address)


@pytest.fixture
def public(start: Any) -> Any:
    """An emulator that listens on all addresses."""
    api = start(host="0.0.0.0", webhook_retry_seconds=())
    api.http.base_url = str(api.http.base_url).replace("0.0.0.0", "127.0.0.1")
    return api


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "localhost", "[::1]", "2130706433", "0x7f.1", "[::ffff:127.0.0.1]", "169.254.169.254"]
)
def test_a_private_target_is_refused_and_not_reached(public: Any, site: Any, host: str) -> None:
    port = site.url.rsplit(":", 1)[1]
    task = public.scrape_one(f"http://{host}:{port}/page")
    assert (task["Status"], task["StatusCode"]) == ("error", 502)
    assert "not a public address" in task["ErrorMessage"]
    assert site.hits.total() == 0


def test_a_private_webhook_is_refused(public: Any, site: Any, eventually: Any) -> None:
    plugin = {"Key": "new/plugin", "Params": [{}]}
    job_id = public.create(Plugin=plugin, WebhookURL=f"{site.url}/hook")
    task_id = public.finished(job_id)["TaskIDs"][0]
    eventually(lambda: public.task(job_id, task_id)["WebhookStatus"] == "failed")
    assert site.hits.total() == 0


def test_an_unknown_name_is_an_ordinary_failure(public: Any) -> None:
    task = public.scrape_one("http://no-such-host.invalid/")
    assert (task["Status"], task["StatusCode"]) == ("error", 502)
    assert "cannot be resolved" in task["ErrorMessage"]


@pytest.mark.parametrize(
    ("host", "is_private"),
    [("127.0.0.1", True), ("::1", True), ("localhost", True), ("0.0.0.0", False), ("::", False), ("box", False)],
)
def test_only_loopback_is_private(host: str, is_private: bool) -> None:
    assert EmulatorSettings(host=host, token="my-own").is_private == is_private


def pretend(monkeypatch: pytest.MonkeyPatch, names: dict[str, list[str]]) -> list[str]:
    """Resolve names as given in `names`, and record the lookups."""
    asked: list[str] = []

    async def getaddrinfo(self: Any, host: str, port: int, **_: Any) -> list[Any]:
        asked.append(host)
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (ip, port)) for ip in names[host]]

    monkeypatch.setattr("asyncio.base_events.BaseEventLoop.getaddrinfo", getaddrinfo)
    return asked


class Inner(httpx.AsyncBaseTransport):
    """Records requests, redirects /moved, and cannot connect to 1.1.1.1."""

    def __init__(self) -> None:
        self.sent: list[httpx.Request] = []

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        self.sent.append(request)
        if request.url.host == "1.1.1.1":
            raise httpx.ConnectError("down")
        if request.url.path == "/moved":
            return httpx.Response(302, headers={"Location": "http://inside.test/secret"})
        return httpx.Response(200)


@pytest.fixture
def guarded() -> tuple[httpx.AsyncClient, Inner]:
    transport, inner = PublicOnlyTransport(), Inner()
    transport._inner = inner  # type: ignore[assignment]
    return httpx.AsyncClient(transport=transport, follow_redirects=True), inner


async def test_the_connection_uses_the_checked_address(monkeypatch: pytest.MonkeyPatch, guarded: Any) -> None:
    client, inner = guarded
    asked = pretend(monkeypatch, {"site.test": ["93.184.216.34"]})
    await client.get("https://site.test:8443/a?b=c")
    (request,) = inner.sent
    assert str(request.url) == "https://93.184.216.34:8443/a?b=c"
    assert request.headers["Host"] == "site.test:8443"
    assert request.extensions["sni_hostname"] == "site.test"
    assert asked == ["site.test"], "one look-up, so that a second cannot differ"


async def test_a_name_with_a_private_address_is_refused(monkeypatch: pytest.MonkeyPatch, guarded: Any) -> None:
    client, inner = guarded
    pretend(monkeypatch, {"rebind.test": ["93.184.216.34", "192.168.0.1"]})
    with pytest.raises(PrivateAddressError, match=r"rebind\.test resolves to 192\.168\.0\.1"):
        await client.get("http://rebind.test/")
    assert inner.sent == []


async def test_a_redirect_to_a_private_address_is_refused(monkeypatch: pytest.MonkeyPatch, guarded: Any) -> None:
    client, inner = guarded
    pretend(monkeypatch, {"site.test": ["93.184.216.34"], "inside.test": ["10.0.0.1"]})
    with pytest.raises(PrivateAddressError):
        await client.get("http://site.test/moved")
    assert [request.url.path for request in inner.sent] == ["/moved"]


async def test_the_next_address_is_tried_if_one_does_not_connect(monkeypatch: pytest.MonkeyPatch, guarded: Any) -> None:
    client, inner = guarded
    pretend(monkeypatch, {"site.test": ["1.1.1.1", "93.184.216.34"]})
    assert (await client.get("http://site.test/")).status_code == 200
    assert [request.url.host for request in inner.sent] == ["1.1.1.1", "93.184.216.34"]


def test_an_emulator_beyond_loopback_needs_another_token() -> None:
    with pytest.raises(EmulatorSettingsError, match="set another token"):
        EmulatorSettings(host="0.0.0.0")
