"""A name that leads nowhere, or not where its caller thinks."""

from __future__ import annotations

from .root import RegistryError


class InvalidReference(RegistryError):
    """The text is no adapter name, alias name or reference."""

    status = 400
    code = "invalid_reference"


class NotFound(RegistryError):
    """What the reference points at does not exist."""

    status = 404
    code = "not_found"


class AdapterNotFound(NotFound):
    """No adapter by that name; the message names near matches."""

    code = "adapter_not_found"


class VersionNotFound(NotFound):
    """The adapter exists, but not that number or digest."""

    code = "version_not_found"


class AliasNotFound(NotFound):
    """The adapter exists, but has no such alias."""

    code = "alias_not_found"


class CanaryNotFound(NotFound):
    """No canary runs on the alias, or none ever did."""

    code = "canary_not_found"


class HubNotFound(NotFound):
    """The Hub has no such repository, revision or file, or hides it from this user."""

    code = "hub_not_found"


class BaseNotFound(RegistryError):
    """No folder and no pulled base by that name."""

    status = 404
    code = "base_not_found"


class AmbiguousReference(RegistryError):
    """A digest prefix fits more than one version."""

    status = 409
    code = "ambiguous_reference"


class AliasConflict(RegistryError):
    """The alias does not point where the caller expected, or has nowhere to roll back to."""

    status = 412
    code = "alias_conflict"


class CanaryConflict(RegistryError):
    """The alias has a canary already, or it is not the one, or not the step, that was expected."""

    status = 412
    code = "canary_conflict"


class VersionInUse(RegistryError):
    """The version cannot be withdrawn: an alias points at it."""

    status = 409
    code = "version_in_use"


class DestinationExists(RegistryError):
    """A pull would write over files that are there."""

    status = 409
    code = "destination_exists"
