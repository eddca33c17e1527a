"""Requests over HTTP that cannot be understood, or are not allowed."""

from __future__ import annotations

from .root import RegistryError


class InvalidRequest(RegistryError):
    """A request to the registry's HTTP API that cannot be understood; `param` names the place."""

    status = 400
    code = "invalid_request"


class KeyNeeded(RegistryError):
    """No key was given, or none that is valid now."""

    status = 401
    code = "key_needed"


class Forbidden(RegistryError):
    """The key is valid, but not for this adapter or not for this."""

    status = 403
    code = "forbidden"


class UploadNotFound(RegistryError):
    """No such upload: it was finished, given up, or swept away."""

    status = 404
    code = "upload_not_found"


class UploadConflict(RegistryError):
    """The piece does not begin where the upload ends; ask for its state and go on from there."""

    status = 416
    code = "upload_conflict"
