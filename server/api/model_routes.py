"""GET /v1/models and GET /v1/models/{id}."""

from __future__ import annotations

import time
from collections.abc import Iterator

import anyio.to_thread
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from registry.errors import RegistryError
from server.errors import ServingError

from .documents.model import ModelCard, ModelCards
from .models import Models, ServedModel
from .permission import may_name
from .ports import Base, Engine


class ModelRoutes:
    """What may stand in `model`."""

    def __init__(self, *, models: Models, base: Base, engine: Engine) -> None:
        self._models = models
        self._base = base
        self._engine = engine
        self._started = int(time.time())

    async def index(self, _request: Request) -> Response:
        cards = await anyio.to_thread.run_sync(lambda: list(self._cards()))
        answer: ModelCards = {"object": "list", "data": cards}
        return JSONResponse(answer)

    async def show(self, request: Request) -> Response:
        model = await self._models.find(request.path_params["model_id"])
        return JSONResponse(self._card(model.name, model), headers=model.headers)

    def _cards(self) -> Iterator[ModelCard]:
        """The base, then each adapter that runs on it under its name and its aliases.

        Of those that the request's key may name.
        """
        if may_name(self._base.name):
            yield self._card(self._base.name, self._models.base)
        for name in self._models.servable_names():
            try:
                yield self._card(name, self._models.resolve(name))
            except (RegistryError, ServingError):
                continue  # an alias of it points at another base's version

    def _card(self, name: str, model: ServedModel) -> ModelCard:
        adapter, created_at = model.adapter, model.created_at
        return {
            "id": name,
            "object": "model",
            "created": int(created_at.timestamp()) if created_at else self._started,
            "owned_by": "hatstand",
            "root": model.label,
            "parent": None if adapter is None else self._base.name,
            "digest": model.digest,
            "max_model_len": self._engine.stats().max_context or self._base.max_context,
        }
