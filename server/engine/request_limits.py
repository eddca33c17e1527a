"""What one request may ask of the base."""

from __future__ import annotations

from dataclasses import dataclass

from server.engine.request import GenerationRequest
from server.errors import ContextLengthExceeded, InvalidRequest


@dataclass(frozen=True)
class RequestLimits:
    """Token ids below `vocab_size`, and `max_context` tokens of prompt and answer together."""

    vocab_size: int
    max_context: int

    def check(self, request: GenerationRequest) -> None:
        """Raises InvalidRequest or ContextLengthExceeded."""
        self._check_tokens(request)
        self._check_length(request)

    def _check_tokens(self, request: GenerationRequest) -> None:
        """A token outside the embedding would end everybody's step."""
        if not request.prompt_token_ids:
            raise InvalidRequest("the prompt has no tokens", param="prompt")
        params = request.params
        for name, token_ids in (
            ("prompt", request.prompt_token_ids),
            ("logit_bias", params.logit_bias),
            ("stop_token_ids", params.stop_token_ids),
        ):
            if token_ids and not 0 <= min(token_ids) <= max(token_ids) < self.vocab_size:
                raise InvalidRequest(
                    f"{name} has tokens outside the base's vocabulary of {self.vocab_size}",
                    param=name,
                )

    def _check_length(self, request: GenerationRequest) -> None:
        prompt, wanted = len(request.prompt_token_ids), request.params.max_tokens
        if prompt + wanted > self.max_context:
            raise ContextLengthExceeded(
                f"the prompt has {prompt} tokens and max_tokens is {wanted}; together they exceed "
                f"the context of {self.max_context} tokens",
                param="max_tokens",
            )
