"""Convert the response of a target to the `Content` of a task: text, base64, Markdown or browser JSON."""

from __future__ import annotations

import base64
import json
from typing import Final

import markdownify

from scrapedo_dagster.emulator.fetcher import TargetResponse
from scrapedo_dagster.emulator.job_body import JobBody, RenderBody, ScreenShot

# A valid image of one transparent pixel, in place of screenshots.
_PIXEL: Final = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNkYPhfDwAChwGA60e6kgAAAABJRU5ErkJggg=="
_SCREENSHOT_TYPES: Final = {
    "Screenshot": "ScreenShot",
    "FullScreenshot": "FullScreenShot",
    "ParticularScreenshot": "ParticularScreenShot",
}


def content_of(response: TargetResponse, job: JobBody) -> tuple[str, bool]:
    """Return the content, and whether it is base64, which it is if the body is not valid UTF-8."""
    if job.output == "markdown" and "html" in response.content_type.lower():
        text, is_base64 = _markdown(response), False
    else:
        text, is_base64 = _text(response.body)
    if job.render is not None and job.render.return_json:
        return _browser_json(response.status_code, text, job.render), False
    return text, is_base64


def _text(body: bytes) -> tuple[str, bool]:
    try:
        return body.decode("utf-8"), False
    except UnicodeDecodeError:
        return base64.b64encode(body).decode("ascii"), True


def _markdown(response: TargetResponse) -> str:
    try:
        html = response.body.decode(response.charset or "utf-8", "replace")
    except LookupError:
        html = response.body.decode("utf-8", "replace")
    return str(markdownify.markdownify(html))


def _browser_json(status_code: int, content: str, render: RenderBody) -> str:
    """Return the JSON of ReturnJSON, without a browser: every action succeeds, screenshots are one pixel."""
    actions = render.play_with_browser or []
    kinds = [_SCREENSHOT_TYPES[name] for name in render.screenshots]
    kinds += [_screenshot_type(action) for action in actions if isinstance(action, ScreenShot)]
    return json.dumps(
        {
            "statusCode": status_code,
            "content": content,
            "networkRequests": [],
            "websocketRequests": [],
            "actionResults": [
                {"action": action.action, "index": index, "success": True} for index, action in enumerate(actions)
            ],
            "screenShots": [{"type": kind, "image": _PIXEL} for kind in kinds],
            "frames": [],
        },
        ensure_ascii=False,
    )


def _screenshot_type(action: ScreenShot) -> str:
    if action.full:
        return "FullScreenShot"
    return "ParticularScreenShot" if action.particular else "ScreenShot"
