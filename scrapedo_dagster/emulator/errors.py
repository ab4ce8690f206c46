"""Error of an API call."""

from __future__ import annotations


class ApiError(Exception):
    """An error response: `{"Error": message, "Code": status}` with HTTP status `status`."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
