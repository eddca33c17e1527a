"""The body of POST /v1/embeddings."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from server.api import limits
from server.api.completion_body import Prompt, prompt_list
from server.api.composition_body import WeightedNames
from server.api.only import Only
from server.engine.request import Pooling


class EmbeddingBody(BaseModel):
    """One text or several, as text or as token ids, and how their vectors are to be made."""

    model_config = ConfigDict(
        strict=True, extra="forbid", frozen=True, allow_inf_nan=False, hide_input_in_errors=True
    )

    model: Annotated[str, StringConstraints(min_length=1, max_length=limits.MAX_NAME)]
    input: Prompt
    encoding_format: Literal["float", "base64"] | None = None
    dimensions: int | None = Field(default=None, ge=1)
    pooling: Pooling | None = None
    adapters: WeightedNames | None = None  # whose updates are added up

    # Accepted because clients send it, and without effect here.
    user: Annotated[str, StringConstraints(max_length=1024)] | None = None

    # vLLM's, not carried out here.
    add_special_tokens: Annotated[Any, Only(True)] = None
    normalize: Annotated[Any, Only(True)] = None
    priority: Annotated[Any, Only(0)] = None
    truncate_prompt_tokens: Annotated[Any, Only()] = None

    @property
    def inputs(self) -> list[str | list[int]]:
        """The input as a list, each a text or a list of token ids."""
        return [*prompt_list(self.input)]
