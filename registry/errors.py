"""What the registry can refuse or fail at, as one tree.

RegistryError                     500 registry_error
├── InvalidReference              400 invalid_reference
├── InvalidHat                    400 invalid_hat
│   └── TemplateFailed            400 template_failed
├── InvalidLock                   400 invalid_lock
├── InvalidBase                   400 invalid_base
├── BaseNotFound                  404 base_not_found
├── NotFound                      404 not_found
│   ├── AdapterNotFound           404 adapter_not_found
│   ├── VersionNotFound           404 version_not_found
│   ├── AliasNotFound             404 alias_not_found
│   ├── CanaryNotFound            404 canary_not_found
│   └── HubNotFound               404 hub_not_found
├── AmbiguousReference            409 ambiguous_reference
├── AliasConflict                 412 alias_conflict
├── CanaryConflict                412 canary_conflict
├── DestinationExists             409 destination_exists
├── MissingExtra                  501 missing_extra
├── SignatureMissing              403 signature_missing
├── SignatureInvalid              403 signature_invalid
├── ReceiptMissing                409 receipt_missing
├── ReceiptMismatch               409 receipt_mismatch
├── TemplateMismatch              409 template_mismatch
├── PushRefused                   422 push_refused
│   ├── FileRefused               422 file_refused
│   ├── InvalidReceipt            422 invalid_receipt
│   ├── TooLarge                  413 too_large
│   ├── ConfigRefused             422 adapter_config_refused
│   ├── TensorRefused             422 tensor_refused
│   └── BaseMismatch              409 base_mismatch
├── Corrupted                     500 corrupted
│   └── BlobNotFound              404 blob_not_found
├── BlobsMissing                  409 blobs_missing
├── VersionInUse                  409 version_in_use
├── UploadNotFound                404 upload_not_found
├── UploadConflict                416 upload_conflict
├── InvalidRequest                400 invalid_request
├── KeyNeeded                     401 key_needed
├── Forbidden                     403 forbidden
└── Unavailable                   503 unavailable
    ├── TemplatesBusy             503 templates_busy
    ├── HubUnavailable            503 hub_unavailable
    ├── CatalogUnavailable        503 catalog_unavailable
    ├── StoreUnavailable          503 store_unavailable
    │   └── StoreFull             507 store_full
    └── RegistryUnreachable       503 registry_unreachable

`message` is for people and says what to do next; `code`, `status` (an HTTP status) and `param`
(the file, key, tensor or field at fault) are for programs, as is `retry_after`: seconds after which
another try may do, where that is known.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .verdicts import Verdict


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


class InvalidReference(RegistryError):
    """The text is no adapter name, alias name or reference."""

    status = 400
    code = "invalid_reference"


class InvalidHat(RegistryError):
    """hat.json or its template breaks the rules; `param` names the key."""

    status = 400
    code = "invalid_hat"


class TemplateFailed(InvalidHat):
    """A chat template does not compile, or stopped while rendering these messages."""

    code = "template_failed"


class InvalidLock(RegistryError):
    """lock.json breaks the rules; `param` names the key."""

    status = 400
    code = "invalid_lock"


class InvalidBase(RegistryError):
    """The folder is no complete checkpoint; `param` names the file or key."""

    status = 400
    code = "invalid_base"


class BaseNotFound(RegistryError):
    """No folder and no pulled base by that name."""

    status = 404
    code = "base_not_found"


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


class DestinationExists(RegistryError):
    """A pull would write over files that are there."""

    status = 409
    code = "destination_exists"


class MissingExtra(RegistryError):
    """Something optional is not installed; the message is the command that installs it."""

    status = 501
    code = "missing_extra"

    def __init__(self, what: str, extra: str) -> None:
        super().__init__(f"{what} needs more: pip install 'hatstand[{extra}]'", param=extra)


class SignatureMissing(RegistryError):
    """A version must be signed here, and is not."""

    status = 403
    code = "signature_missing"


class SignatureInvalid(RegistryError):
    """None of a version's signatures is of somebody trusted for exactly its files."""

    status = 403
    code = "signature_invalid"


class ReceiptMissing(RegistryError):
    """A receipt is needed, and the version came without one."""

    status = 409
    code = "receipt_missing"


class ReceiptMismatch(RegistryError):
    """The adapter does not answer as it did in training; `param` names the probe and the token."""

    status = 409
    code = "receipt_mismatch"


class TemplateMismatch(RegistryError):
    """The hat renders a prompt to other tokens than it did in training."""

    status = 409
    code = "template_mismatch"


class PushRefused(RegistryError):
    """The folder cannot become a version. Nothing was stored."""

    status = 422
    code = "push_refused"


class FileRefused(PushRefused):
    """A file is missing, unsafe, oddly named or malformed; `param` names it."""

    code = "file_refused"


class InvalidReceipt(PushRefused):
    """receipt.json breaks the rules; `param` names the key."""

    code = "invalid_receipt"


class TooLarge(PushRefused):
    """The files exceed the size limit."""

    status = 413
    code = "too_large"


class ConfigRefused(PushRefused):
    """adapter_config.json asks for what cannot be served; `param` names the key.

    `verdicts` holds one on every feature that the configuration turns on, where it was read whole.
    """

    code = "adapter_config_refused"

    def __init__(
        self, message: str, *, param: str | None = None, verdicts: tuple[Verdict, ...] = ()
    ) -> None:
        super().__init__(message, param=param)
        self.verdicts = verdicts


class TensorRefused(PushRefused):
    """A tensor is missing, extra, misshapen, not finite or untrained; `param` names it."""

    code = "tensor_refused"


class BaseMismatch(PushRefused):
    """The adapter was trained on another base than the one named."""

    status = 409
    code = "base_mismatch"


class Corrupted(RegistryError):
    """Stored bytes no longer match their digest."""

    code = "corrupted"


class BlobNotFound(Corrupted):
    """A blob that should be there is not."""

    status = 404
    code = "blob_not_found"


class BlobsMissing(RegistryError):
    """A commit names blobs that the store lacks: upload them (again) and commit again."""

    status = 409
    code = "blobs_missing"

    def __init__(self, digests: Sequence[str]) -> None:
        super().__init__(
            f"{len(digests)} blobs are not in the store, {digests[0]} among them: upload them and "
            "commit again",
            param="manifest",
        )
        self.digests = tuple(digests)


class VersionInUse(RegistryError):
    """The version cannot be withdrawn: an alias points at it."""

    status = 409
    code = "version_in_use"


class UploadNotFound(RegistryError):
    """No such upload: it was finished, given up, or swept away."""

    status = 404
    code = "upload_not_found"


class UploadConflict(RegistryError):
    """The piece does not begin where the upload ends; ask for its state and go on from there."""

    status = 416
    code = "upload_conflict"


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
