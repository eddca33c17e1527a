"""What a sequence is told that cannot go on."""

from __future__ import annotations

import logging

from server.engine.sequence import Sequence
from server.errors import InvalidRequest, NonFiniteLogits, OutOfMemory, ServingError

logger = logging.getLogger(__name__)


def no_token(sequence: Sequence) -> ServingError:
    """Why no token could be chosen."""
    if sequence.matcher is not None and sequence.matcher.error is not None:
        return InvalidRequest(
            "The grammar of this answer costs too much to follow: "
            f"{sequence.matcher.error}. Make it simpler."
        )
    return not_finite(sequence)


def not_finite(sequence: Sequence) -> NonFiniteLogits:
    """The model's output is of no use; told to the log too, since the weights may be damaged."""
    error = NonFiniteLogits(
        f"the model's output became NaN or infinite after {sequence.num_generated} tokens of "
        f"{sequence.label}, so that nothing can be made of it; its weights are damaged, or "
        "overflow on this prompt"
    )
    logger.error("%s: %s", sequence.request.request_id, error)
    return error


def out_of_memory(sequence: Sequence, cause: RuntimeError) -> OutOfMemory:
    """The device has no room for it beside the others; `cause`, its own words, is for the log."""
    request_id = sequence.request.request_id
    logger.error("%s was ended for want of device memory: %s", request_id, cause)
    return OutOfMemory(
        "the device has no memory left for this request beside those that run; try again, "
        "or start the server with less --kv-memory or fewer --max-slots",
        retry_after=1.0,
    )
