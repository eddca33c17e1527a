"""What strangers' bytes reach: each reader takes any bytes and may only refuse them."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path

from registry.adapters import AdapterSpec
from registry.errors import RegistryError
from registry.hats import Hat
from registry.hub import HubReference
from registry.lock import Lock
from registry.manifest import Manifest
from registry.references import Reference
from registry.safetensors_file import SafetensorsFile
from registry.template_process import TemplateProcess
from registry.validation import parse_object
from tests.fuzz.apps import registry_site, server_site
from tests.fuzz.memory import memory
from tests.registry.making import TINY_CONFIG
from training.errors import TrainingError
from training.reading import read_recipe

Target = Callable[[bytes], object]
_TEMPLATES = TemplateProcess(seconds=1.0)
_CHAT = [{"role": "user", "content": "hi"}]
_SECRET = "NOT-FOR-TEMPLATES"
os.environ["HATSTAND_FUZZED"] = _SECRET
_LONGEST = 1 << 16  # bytes: what is slow in its length alone finds nothing


def read_safetensors(content: bytes) -> None:
    """The header, then every tensor that the adapters' dtypes allow."""
    with tempfile.NamedTemporaryFile(dir=memory()) as file:
        file.write(content)
        file.flush()
        opened = SafetensorsFile.open(Path(file.name))
        for name in opened.tensors:
            opened.read(name)


def read_adapter_config(content: bytes) -> None:
    """Everything that an adapter_config.json decides, on a tiny base."""
    config = parse_object(content, source="adapter_config.json", error=RegistryError)
    spec = AdapterSpec.from_config(config, TINY_CONFIG)
    assert spec.tensors
    assert spec.max_rank > 0


def read_manifest(content: bytes) -> None:
    """A manifest; what was read is written as the same manifest again."""
    manifest = Manifest.from_bytes(content)
    assert Manifest.from_bytes(manifest.to_bytes()) == manifest
    assert manifest.size >= 0


def read_lock(content: bytes) -> None:
    """A lock; what was read is written as the same lock again."""
    lock = Lock.from_bytes(content)
    assert Lock.from_bytes(lock.to_bytes()) == lock


def read_hat(content: bytes) -> None:
    """A hat, its template apart."""
    hat_json, _, template = content.partition(b"\0")
    Hat.from_parts(hat_json, template or None)


def read_reference(content: bytes) -> None:
    """References to versions and to the Hub."""
    text = content.decode("utf-8", "replace")
    for parse in (Reference.parse, HubReference.parse):
        try:
            parsed = parse(text)
        except RegistryError:
            continue
        assert parse(str(parsed)) == parsed


def read_recipe_file(content: bytes) -> None:
    """A training recipe."""
    with tempfile.NamedTemporaryFile(dir=memory(), suffix=".yaml") as file:
        file.write(content)
        file.flush()
        read_recipe(Path(file.name))


def render_template(content: bytes) -> None:
    """A chat template, compiled and rendered where strangers' are."""
    template = content.decode("utf-8", "replace")
    _TEMPLATES.check(template)
    said = _TEMPLATES.render(
        template, _CHAT, add_generation_prompt=True, bos_token="<s>", eos_token="</s>"
    )
    assert _SECRET not in said


def ask_server(content: bytes) -> None:
    """One request to the inference API."""
    server_site().take(content)


def ask_registry(content: bytes) -> None:
    """One request to the registry's API."""
    registry_site().take(content)


TARGETS: Mapping[str, Target] = {
    "adapter_config": read_adapter_config,
    "hat": read_hat,
    "lock": read_lock,
    "manifest": read_manifest,
    "recipe": read_recipe_file,
    "reference": read_reference,
    "registry_api": ask_registry,
    "safetensors": read_safetensors,
    "server_api": ask_server,
    "template": render_template,
}


def survive(target: Target, content: bytes) -> None:
    """Run a target; a refusal in our own words is what is wanted."""
    try:
        target(content[:_LONGEST])
    except (RegistryError, TrainingError) as refusal:
        str(refusal).encode()  # printable, whatever the bytes were
