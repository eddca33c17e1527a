"""Bytes that are lost or damaged, and what the registry rests on failing it."""

from __future__ import annotations

from .root import RegistryError


class Corrupted(RegistryError):
    """Stored bytes no longer match their digest."""

    code = "corrupted"


class BlobNotFound(Corrupted):
    """A blob that should be there is not."""

    status = 404
    code = "blob_not_found"


class Unavailable(RegistryError):
    """Something the registry rests on does not answer; trying again may help."""

    status = 503
    code = "unavailable"


class TemplatesBusy(Unavailable):
    """So many slow chat templates are at work that there is no place for one more."""

    code = "templates_busy"


class HubUnavailable(Unavailable):
    """The Hugging Face Hub, or its mirror, does not answer or fails."""

    code = "hub_unavailable"


class CatalogUnavailable(Unavailable):
    """The catalog cannot be opened: locked, unreadable, or made by a newer Hatstand."""

    code = "catalog_unavailable"


class StoreUnavailable(Unavailable):
    """The bucket that holds the blobs does not answer, or refuses."""

    code = "store_unavailable"


class StoreFull(StoreUnavailable):
    """The disk that holds the blobs has no room left."""

    status = 507
    code = "store_full"


class RegistryUnreachable(Unavailable):
    """The registry's server does not answer, or not as a registry."""

    code = "registry_unreachable"


class MissingExtra(RegistryError):
    """Something optional is not installed; the message is the command that installs it."""

    status = 501
    code = "missing_extra"

    def __init__(self, what: str, extra: str) -> None:
        super().__init__(f"{what} needs more: pip install 'hatstand[{extra}]'", param=extra)
