"""What a request's `model` means: the base, or a version of an adapter with its hat."""

from __future__ import annotations

import difflib
from collections import OrderedDict
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import cached_property
from urllib.parse import quote

import anyio.to_thread

from registry import errors as registry_errors
from registry.canary.record import Route
from registry.errors import RegistryError, TemplateFailed, TemplateMismatch
from registry.hats import Hat
from registry.references import Reference
from registry.replay import check_rendering
from registry.tracing import current_span
from registry.versions import Version
from server.canary.arms import Arm, Arms
from server.engine.composition import is_composed
from server.engine.request import AdapterRef
from server.errors import AdapterNotFound, AdapterNotServable, ModelNotFound
from server.proof import ReceiptGate, SignatureGuard
from server.proof.rendering import Renderer

from .permission import may_name
from .ports import AdapterRegistry, Base
from .request_names import RequestNames

SHORT = 12  # hex digits of a digest that are enough to tell versions apart
COMPOSITIONS = "compositions"  # no adapter's label: those have an @
MOST_HATS = 256  # kept in memory


@dataclass(frozen=True)
class ServedModel:
    """One meaning of `model`, fixed for the life of a request."""

    name: str  # as the request wrote it
    label: str  # "sql@3", or the base's name
    digest: str  # the version's, or the base's fingerprint
    base_fingerprint: str
    adapter: AdapterRef | None = None
    hat: Hat = field(default_factory=Hat)
    created_at: datetime | None = None
    arm: Arm | None = None  # where a canary splits the name's requests

    @property
    def headers(self) -> dict[str, str]:
        label = quote(self.label, safe="@/ *+")  # a base's name may be any folder's
        return {"x-hatstand-adapter": label, "x-hatstand-digest": self.digest}

    @property
    def counted_as(self) -> str:
        """The label of its tokens among the metrics: scales are the callers' to choose, so all
        compositions have one.
        """
        if self.adapter is not None and is_composed(self.adapter.digest):
            return COMPOSITIONS
        return self.label

    @property
    def system_fingerprint(self) -> str:
        """Base and adapter by digest: the same fingerprint means the same weights."""
        parts = [f"base-{short_digest(self.base_fingerprint)}"]
        if self.adapter is not None:
            kind = "composition" if is_composed(self.adapter.digest) else "adapter"
            parts.append(f"{kind}-{short_digest(self.adapter.digest)}")
        return "_".join(parts)


class Models:
    """Finds models by name. Nothing is cached by name, so a push or alias move counts at once."""

    def __init__(
        self,
        registry: AdapterRegistry,
        base: Base,
        gate: ReceiptGate | None = None,
        arms: Arms | None = None,
        guard: SignatureGuard | None = None,
    ) -> None:
        self._registry = registry
        self._base = base
        self._gate = gate
        self._arms = arms or Arms()
        self._guard = guard
        self._hats: OrderedDict[str, Hat] = OrderedDict()  # by digest: they never change
        self.names = RequestNames(registry)

    @cached_property
    def base(self) -> ServedModel:
        """The bare base."""
        fingerprint = self._base.record.fingerprint
        return ServedModel(self._base.name, self._base.name, fingerprint, fingerprint)

    async def find(self, name: str) -> ServedModel:
        """`resolve`, off the event loop."""
        return await anyio.to_thread.run_sync(self.resolve, name)

    def resolve(self, name: str) -> ServedModel:
        """What `name` means now. Reads the catalog, so keep it off the event loop.

        Raises AdapterNotFound (naming near matches), AdapterNotServable for another base's
        adapter, one whose hat renders otherwise than in training, or one that the gate holds back,
        or the registry's own error about a version or alias that is not there, or not signed.
        What the request's key may not name is as if it were not there.
        """
        if self._is_base(name):
            return self.base
        return self._served(name, self._gated(name, self._route(name)).stable)

    def choose(self, name: str, session: str) -> ServedModel:
        """What a request of that session ("": of none) gets: `resolve`, or a canary's version."""
        if self._is_base(name):
            return self.base
        version, arm = self._arms.choose(self._gated(name, self._route(name)), session)
        return replace(self._served(name, version), arm=arm)

    def admit(self, version: Version) -> ServedModel:
        """A version that is to be served by a name soon; raises what `resolve` would."""
        if self._gate is not None:
            self._gate.pass_through(version.digest, version)
        return self._served(version.ref, version)

    def _is_base(self, name: str) -> bool:
        if name == self._base.name and not may_name(name):
            raise ModelNotFound(self._not_found("model", name), param="model")
        return name == self._base.name

    def _served(self, name: str, version: Version) -> ServedModel:
        if version.base_fingerprint != self._base.record.fingerprint:
            raise AdapterNotServable(
                f"Adapter {version.ref} was trained on another base "
                f"({short_digest(version.base_fingerprint)}) than this server's "
                f"'{self._base.name}' ({short_digest(self._base.record.fingerprint)}).",
                param="model",
            )
        if self._guard is not None:
            self._guard.admit(version)
        self.names.note(version)
        adapter = AdapterRef(version.digest, version.ref, asked_in=current_span())
        return ServedModel(
            name=name,
            label=version.ref,
            digest=version.digest,
            base_fingerprint=self._base.record.fingerprint,
            adapter=adapter,
            hat=self._hat(version),
            created_at=version.created_at,
        )

    def servable_names(self) -> list[str]:
        """Every adapter of this server's base that may be named, with its aliases."""
        names = []
        for adapter in self._registry.adapters():
            if not may_name(adapter.name):
                continue
            try:
                self._served(adapter.name, self._route(adapter.name).stable)
                aliases = self._registry.aliases(adapter.name)
            except (RegistryError, AdapterNotServable):
                continue  # of another base, or with nothing to serve
            names += [adapter.name, *(f"{adapter.name}@{alias}" for alias in sorted(aliases))]
        return names

    def _hat(self, version: Version) -> Hat:
        """The version's hat, once it has rendered the lock's prompts as training did."""
        hat = self._hats.get(version.digest)
        if hat is None:
            hat = self._registry.hat(version)
            lock = self._registry.lock(version)
            try:
                check_rendering(version.ref, lock, hat, Renderer(self._base.tokenizer))
            except (TemplateFailed, TemplateMismatch) as error:
                raise AdapterNotServable(error.message, param="model") from error
            self._hats[version.digest] = hat
            if len(self._hats) > MOST_HATS:
                self._hats.popitem(last=False)
        return hat

    def _route(self, name: str) -> Route:
        """Where a name leads, with the registry's errors in this server's words."""
        if not may_name(name):
            raise AdapterNotFound(self._not_found("adapter", name), param="model")
        try:
            return self._registry.route(Reference.parse(name))
        except registry_errors.InvalidReference:
            raise ModelNotFound(self._not_found("model", name), param="model") from None
        except registry_errors.AdapterNotFound:
            raise AdapterNotFound(self._not_found("adapter", name), param="model") from None
        except RegistryError as error:
            error.param = "model"
            raise

    def _gated(self, name: str, route: Route) -> Route:
        """Where a name can be moved, the version that may take effect by now."""
        reference = Reference.parse(name)
        is_movable = reference.number is None and reference.digest is None
        if self._gate is None or not is_movable:
            return route
        return replace(route, stable=self._gate.pass_through(name, route.stable))

    def _not_found(self, kind: str, name: str) -> str:
        asked = name.partition("@")[0].lower()
        known = [self._base.name, *(adapter.name for adapter in self._registry.adapters())]
        known = [name for name in known if may_name(name)]
        near = difflib.get_close_matches(asked, known, n=3, cutoff=0.5)
        hint = f"Did you mean {' or '.join(map(repr, near))}?" if near else _examples(known)
        return f"There is no {kind} '{name[:80]}' here. {hint}"


def short_digest(digest: str) -> str:
    """The first hex digits of `sha256:…`, or of a composition's."""
    return digest.rpartition(":")[2][:SHORT]


def _examples(known: list[str]) -> str:
    if not known:
        return "Nothing here matches what this API key may name."
    some = ", ".join(map(repr, known[:5]))
    return f"This server has {some}{' and more' if len(known) > 5 else ''}."
