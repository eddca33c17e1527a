"""What a request's `adapters` mean: one model, whose update is theirs added up."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from registry.errors import RegistryError
from server.engine.composition import compose
from server.engine.request import WeightedAdapter
from server.errors import InvalidRequest, ServingError

from .composition_body import WeightedName
from .models import Models, ServedModel

PARAM = "adapters"


def composed(models: Models, name: str, parts: Sequence[WeightedName]) -> ServedModel:
    """The sum of `parts`, with the hat of `name`, which is one of them; or the base, with none.

    Aliases mean what they mean now, canaries aside. Reads the catalog. Raises what `Models.resolve`
    does, with the adapter's place, and InvalidRequest where they do not go together.
    """
    members = [_member(models, index, part.name) for index, part in enumerate(parts)]
    versions = [member.adapter for member in members if member.adapter is not None]
    seen: dict[str, int] = {}
    for index, version in enumerate(versions):
        first = seen.setdefault(version.digest, index)
        if first != index:
            raise InvalidRequest(
                f"'{PARAM}.{index}' is {version.label}, as '{PARAM}.{first}' is: give it once.",
                param=f"{PARAM}.{index}",
            )
    wearer = models.resolve(name)
    if wearer.adapter is not None and wearer.digest not in seen:
        raise InvalidRequest(
            f"'model' is {wearer.label}, which is none of '{PARAM}': give the one of them whose "
            f"hat the request is to wear, or '{models.base.name}' for none.",
            param="model",
        )
    adapter = compose(
        [
            WeightedAdapter(version, part.scale)
            for version, part in zip(versions, parts, strict=True)
        ]
    )
    return replace(wearer, label=adapter.label, digest=adapter.digest, adapter=adapter)


def _member(models: Models, index: int, name: str) -> ServedModel:
    param = f"{PARAM}.{index}.name"
    try:
        member = models.resolve(name)
    except (ServingError, RegistryError) as error:
        error.param = param
        raise
    if member.adapter is None:
        raise InvalidRequest(f"'{param}' is the base: it is always there.", param=param)
    return member
