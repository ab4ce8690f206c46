"""The one exception by which an API call is refused."""

from __future__ import annotations


class ApiError(Exception):
    """Becomes the documented envelope `{"Error": message, "Code": status}` with HTTP status `status`."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
