"""POST /tokenize and /detokenize: what the model reads and writes."""

from __future__ import annotations

import anyio.to_thread
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from .bodies import parse_body
from .documents.token import Tokens, TokenText
from .intake import Intake
from .models import Models
from .ports import Base
from .sampling import check_token_id
from .token_body import DetokenizeBody, TokenizeBody


class TokenRoutes:
    """Text to token ids and back, off the event loop."""

    def __init__(self, *, intake: Intake, models: Models, base: Base) -> None:
        self._intake = intake
        self._models = models
        self._base = base

    async def tokenize(self, request: Request) -> Response:
        body = parse_body(await request.body(), TokenizeBody)
        model = await self._models.find(body.model)
        tokens = await anyio.to_thread.run_sync(self._intake.tokens, model, body)
        answer: Tokens = {
            "count": len(tokens),
            "max_model_len": self._base.max_context,
            "tokens": tokens,
        }
        if body.return_token_strs:
            answer["token_strs"] = [self._base.tokenizer.token_text(token) for token in tokens]
        return JSONResponse(answer, headers=model.headers)

    async def detokenize(self, request: Request) -> Response:
        body = parse_body(await request.body(), DetokenizeBody)
        model = await self._models.find(body.model)
        for token in body.tokens:
            check_token_id(token, self._base.tokenizer.vocab_size, "tokens")
        text = await anyio.to_thread.run_sync(self._base.tokenizer.verbatim, body.tokens)
        answer: TokenText = {"prompt": text}
        return JSONResponse(answer, headers=model.headers)
