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

from .proofs import (
    ReceiptMismatch,
    ReceiptMissing,
    SignatureInvalid,
    SignatureMissing,
)
from .pushes import (
    BaseMismatch,
    BlobsMissing,
    ConfigRefused,
    FileRefused,
    InvalidBase,
    InvalidHat,
    InvalidLock,
    InvalidReceipt,
    PushRefused,
    TemplateFailed,
    TemplateMismatch,
    TensorRefused,
    TooLarge,
)
from .references import (
    AdapterNotFound,
    AliasConflict,
    AliasNotFound,
    AmbiguousReference,
    BaseNotFound,
    CanaryConflict,
    CanaryNotFound,
    DestinationExists,
    HubNotFound,
    InvalidReference,
    NotFound,
    VersionInUse,
    VersionNotFound,
)
from .requests import (
    Forbidden,
    InvalidRequest,
    KeyNeeded,
    UploadConflict,
    UploadNotFound,
)
from .root import (
    RegistryError,
)
from .storage import (
    BlobNotFound,
    CatalogUnavailable,
    Corrupted,
    HubUnavailable,
    MissingExtra,
    RegistryUnreachable,
    StoreFull,
    StoreUnavailable,
    TemplatesBusy,
    Unavailable,
)

__all__ = [
    "AdapterNotFound",
    "AliasConflict",
    "AliasNotFound",
    "AmbiguousReference",
    "BaseMismatch",
    "BaseNotFound",
    "BlobNotFound",
    "BlobsMissing",
    "CanaryConflict",
    "CanaryNotFound",
    "CatalogUnavailable",
    "ConfigRefused",
    "Corrupted",
    "DestinationExists",
    "FileRefused",
    "Forbidden",
    "HubNotFound",
    "HubUnavailable",
    "InvalidBase",
    "InvalidHat",
    "InvalidLock",
    "InvalidReceipt",
    "InvalidReference",
    "InvalidRequest",
    "KeyNeeded",
    "MissingExtra",
    "NotFound",
    "PushRefused",
    "ReceiptMismatch",
    "ReceiptMissing",
    "RegistryError",
    "RegistryUnreachable",
    "SignatureInvalid",
    "SignatureMissing",
    "StoreFull",
    "StoreUnavailable",
    "TemplateFailed",
    "TemplateMismatch",
    "TemplatesBusy",
    "TensorRefused",
    "TooLarge",
    "Unavailable",
    "UploadConflict",
    "UploadNotFound",
    "VersionInUse",
    "VersionNotFound",
]
