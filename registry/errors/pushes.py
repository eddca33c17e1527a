"""Files that cannot become a version."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from .root import RegistryError

if TYPE_CHECKING:
    from registry.verdicts import Verdict


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


class TemplateMismatch(RegistryError):
    """The hat renders a prompt to other tokens than it did in training."""

    status = 409
    code = "template_mismatch"


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
