"""The root of the tree."""

from __future__ import annotations


class RegistryError(Exception):
    """Base of the tree."""

    status = 500
    code = "registry_error"

    def __init__(
        self, message: str, *, param: str | None = None, retry_after: float | None = None
    ) -> None:
        super().__init__(message)
        self.message = message
        self.param = param
        self.retry_after = retry_after
