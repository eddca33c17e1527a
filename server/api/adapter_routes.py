"""Loading and unloading adapters by hand. Requests load what they need without this."""

from __future__ import annotations

from collections.abc import Callable

from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response

from registry.errors import RegistryError
from server.engine.composition import members
from server.errors import AdapterNotFound, InvalidRequest, ModelNotFound, ServingError

from .adapter_body import LoadBody, UnloadBody
from .bodies import parse_body
from .models import Models, ServedModel
from .permission import may_name
from .ports import Engine
from .readiness import Readiness


class AdapterRoutes:
    """vLLM's pair of endpoints; answers are plain text that starts with "Success: "."""

    def __init__(self, *, models: Models, engine: Engine, readiness: Readiness) -> None:
        self._models = models
        self._engine = engine
        self._readiness = readiness

    async def load(self, request: Request) -> Response:
        body = parse_body(await request.body(), LoadBody)
        model = await self._find(body)
        if model.adapter is None:
            raise InvalidRequest(
                f"'{model.name}' is the base: it is always loaded.", param="lora_name"
            )
        await self._engine.load_adapter(model.adapter, pin=bool(body.pin))
        return PlainTextResponse(
            f"Success: LoRA adapter '{body.lora_name}' added successfully ({model.label}).",
            headers=model.headers,
        )

    async def unload(self, request: Request) -> Response:
        body = parse_body(await request.body(), UnloadBody)
        digests = await self._resident(body.lora_name)
        unloaded = [digest for digest in digests if await self._unload(digest)]
        if not unloaded:
            raise AdapterNotFound(
                f"LoRA adapter '{body.lora_name}' is not loaded.", param="lora_name"
            )
        return PlainTextResponse(f"Success: LoRA adapter '{body.lora_name}' removed successfully.")

    async def _find(self, body: LoadBody) -> ServedModel:
        """What to load: a version that requests for `lora_name` will then run on."""
        if body.lora_path is None or body.lora_path == body.lora_name:
            return await self._named(body.lora_name, param="lora_name")
        model = await self._named(body.lora_path, param="lora_path")
        named = await self._named(body.lora_name, param="lora_name")
        if named.digest != model.digest:
            raise InvalidRequest(
                f"'{body.lora_name}' means {named.label}, not {model.label}. Names belong to the "
                f"registry: load '{body.lora_path}' under that name, or move an alias to it.",
                param="lora_path",
            )
        return model

    async def _named(self, name: str, *, param: str) -> ServedModel:
        try:
            return await self._models.find(name)
        except (ServingError, RegistryError) as error:
            error.param = param
            if isinstance(error, ModelNotFound) and "/" in name:
                error.message = (
                    f"'{param}' names what is in the registry ('sql', 'sql@7') and is no path: "
                    "`registry push FOLDER NAME` takes a folder in."
                )
            raise

    async def _resident(self, name: str) -> list[str]:
        """Digests of the loaded versions that `name` stands for, and of what they are part of."""
        if not may_name(name):
            return []
        # Of a bare name older versions too: an alias may have moved since they were loaded.
        loaded = self._holding(lambda label: name in (label, label.partition("@")[0]))
        if loaded:
            return loaded  # also when the registry no longer knows it
        # Or by an alias, or loaded for another name that has the very same version.
        model = await self._models.find(name)
        return [model.digest, *self._holding(lambda label: label == model.label)]

    def _holding(self, is_meant: Callable[[str], bool]) -> list[str]:
        """Digests of what is loaded and has a version with such a label in it."""
        resident = self._engine.stats().resident
        return [held.digest for held in resident if any(map(is_meant, members(held.label)))]

    async def _unload(self, digest: str) -> bool:
        self._readiness.forget_pin(digest)
        return await self._engine.unload_adapter(digest)
