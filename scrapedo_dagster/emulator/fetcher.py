"""Fetch one target over HTTP, with the options of the job."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Final

import httpx

from scrapedo_dagster.emulator.job_body import JobBody
from scrapedo_dagster.emulator.outgoing_transport import PrivateAddressError

_MAX_BYTES: Final = 4 * 1024 * 1024
_MAX_BYTES_SUPER: Final = 2 * 1024 * 1024
_MAX_REDIRECTS: Final = 10
# Headers of the connection. The content is decoded.
_DROPPED_HEADERS: Final = frozenset({"connection", "content-encoding", "content-length", "transfer-encoding"})
_USER_AGENTS: Final = {
    "desktop": "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/130.0 Safari/537.36",
    "mobile": "Mozilla/5.0 (Linux; Android 14) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/130.0 Mobile",
    "tablet": "Mozilla/5.0 (iPad; CPU OS 17_0 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Safari/604.1",
}


@dataclass(frozen=True)
class TargetResponse:
    """Response of a target. `charset` is that of its Content-Type."""

    status_code: int
    headers: tuple[tuple[str, str], ...]
    body: bytes
    content_type: str
    charset: str | None


class FetchError(Exception):
    """A target sent no usable response.

    status_code: status code of the task: 502, or 510 after a timeout.
    final: whether repeating the request is useless.
    """

    def __init__(self, message: str, *, status_code: int = 502, final: bool = False) -> None:
        super().__init__(message)
        self.status_code = status_code
        self.final = final


class Fetcher:
    """Fetches targets over a shared transport. Cookies are kept within one fetch only."""

    def __init__(self, transport: httpx.AsyncBaseTransport) -> None:
        self._transport = transport

    async def fetch(self, url: str, job: JobBody, *, timeout: float) -> TargetResponse:
        """Fetch a target once, in at most `timeout` seconds. Raises FetchError without a complete response."""
        try:
            return await asyncio.wait_for(self._fetch(url, job, timeout), timeout)
        except (asyncio.TimeoutError, httpx.TimeoutException) as error:
            raise FetchError(f"no response within {timeout:.1f} s", status_code=510) from error
        except PrivateAddressError as error:
            raise FetchError(str(error), final=True) from error
        except httpx.TooManyRedirects as error:
            raise FetchError(f"more than {_MAX_REDIRECTS} redirects", final=True) from error
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise FetchError(f"{type(error).__name__}: {error}") from error

    async def _fetch(self, url: str, job: JobBody, timeout: float) -> TargetResponse:
        request = httpx.Request(
            job.method or "GET",
            url,
            headers=_headers(job),
            content=None if job.body is None else job.body.encode("utf-8", "surrogatepass"),
            extensions={"timeout": httpx.Timeout(timeout).as_dict()},
        )
        # A new client for each target, so that targets share no cookies. It opens no connections itself, so only the
        # response must be closed.
        client = httpx.AsyncClient(
            transport=self._transport,
            follow_redirects=not job.disable_redirection,
            max_redirects=_MAX_REDIRECTS,
            trust_env=False,
        )
        response = await client.send(request, stream=True)
        try:
            body = await _read(response, _MAX_BYTES_SUPER if job.super else _MAX_BYTES)
        finally:
            await response.aclose()
        return TargetResponse(
            status_code=response.status_code,
            headers=tuple(
                (_canonical(name), value)
                for name, value in response.headers.multi_items()
                if name.lower() not in _DROPPED_HEADERS
            ),
            body=body,
            content_type=response.headers.get("content-type", ""),
            charset=response.charset_encoding,
        )


async def _read(response: httpx.Response, limit: int) -> bytes:
    body = bytearray()
    async for chunk in response.aiter_bytes():
        body += chunk
        if len(body) > limit:
            raise FetchError(f"the response is larger than {limit // 1024 // 1024} MB", final=True)
    return bytes(body)


def _headers(job: JobBody) -> list[tuple[bytes, bytes]]:
    """Return the headers of the job, over the defaults unless ForwardHeaders is set."""
    given = {name.lower(): (name, value) for name, value in (job.headers or {}).items()}
    if job.set_cookies:
        given["cookie"] = ("Cookie", job.set_cookies)
    if not job.forward_headers:
        defaults = {
            "accept": ("Accept", "*/*"),
            "accept-encoding": ("Accept-Encoding", "gzip, deflate"),
            "accept-language": ("Accept-Language", "en-US,en;q=0.9"),
            "user-agent": ("User-Agent", _USER_AGENTS[job.device or "desktop"]),
        }
        given = {**defaults, **given}
    return [(name.encode("utf-8"), value.encode("utf-8")) for name, value in given.values()]


def _canonical(name: str) -> str:
    """Return the name of a header as Go writes it."""
    return "-".join(part[:1].upper() + part[1:].lower() for part in name.split("-"))
