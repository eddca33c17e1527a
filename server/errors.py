"""What can go wrong while serving, as one tree.

ServingError                      500 internal_error
├── InvalidRequest                400 invalid_value
│   └── ContextLengthExceeded     400 context_length_exceeded
├── AdapterNotFound               404 adapter_not_found
├── ModelNotFound                 404 model_not_found
├── AdapterNotServable            409 adapter_not_servable
├── AdapterLoadError              503 adapter_load_failed
│   ├── RankTooHigh               409 adapter_not_servable
│   └── CompositionTooLarge       400 invalid_value
├── AdapterCold                   503 adapter_cold
├── QueueFull                     429 queue_full
├── NonFiniteLogits               500 non_finite_logits
├── OutOfMemory                   503 out_of_memory
├── Unavailable                   503 unavailable
│   └── EngineStopped             503 unavailable
└── StartupError                  (never over HTTP) the server cannot start as asked
"""

from __future__ import annotations


class ServingError(Exception):
    """Base of the tree. `message` is for people; `code` and `status` are for programs."""

    status = 500
    type = "server_error"
    code = "internal_error"

    def __init__(
        self, message: str, *, param: str | None = None, retry_after: float | None = None
    ) -> None:
        super().__init__(message)
        self.message = message
        self.param = param
        self.retry_after = retry_after  # seconds, becomes the Retry-After header


class InvalidRequest(ServingError):
    """The request itself is wrong; `param` names what."""

    status = 400
    type = "invalid_request_error"
    code = "invalid_value"


class ContextLengthExceeded(InvalidRequest):
    """Prompt and requested completion do not fit the context together."""

    code = "context_length_exceeded"


class AdapterNotFound(ServingError):
    """No adapter, version or alias by that reference."""

    status = 404
    type = "invalid_request_error"
    code = "adapter_not_found"


class ModelNotFound(AdapterNotFound):
    """The name is neither the base's nor any adapter's."""

    code = "model_not_found"


class AdapterNotServable(ServingError):
    """The adapter exists but this server's base or limits cannot run it."""

    status = 409
    type = "invalid_request_error"
    code = "adapter_not_servable"


class AdapterLoadError(ServingError):
    """The adapter's files could not be brought into a slot."""

    status = 503
    code = "adapter_load_failed"


class RankTooHigh(AdapterLoadError):
    """The adapter is sound, but needs more room than a slot of this server has; no retry helps."""

    status = 409
    type = "invalid_request_error"
    code = "adapter_not_servable"


class CompositionTooLarge(AdapterLoadError):
    """The ranks of a request's adapters come to more than a slot takes."""

    status = 400
    type = "invalid_request_error"
    code = "invalid_value"


class AdapterCold(ServingError):
    """The adapter is not in a slot, and the caller asked not to wait for it."""

    status = 503
    code = "adapter_cold"


class QueueFull(ServingError):
    """The bounded queue has no room; try again after `retry_after` seconds."""

    status = 429
    type = "rate_limit_error"
    code = "queue_full"


class NonFiniteLogits(ServingError):
    """The model's output for one sequence is NaN or infinite: there is no token to choose."""

    code = "non_finite_logits"


class OutOfMemory(ServingError):
    """The device has no memory left for this request beside those that run."""

    status = 503
    code = "out_of_memory"


class Unavailable(ServingError):
    """The server is starting, draining, or its engine has stopped."""

    status = 503
    code = "unavailable"


class EngineStopped(Unavailable):
    """The engine ended by an error of its own; the process has to be started again."""

    def __init__(
        self, message: str = "the engine stopped after an error; the server's log has the details"
    ) -> None:
        super().__init__(message)


class StartupError(Exception):
    """The server cannot start as asked; the message says what to change."""
