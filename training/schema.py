"""The recipe's JSON schema, for editors: `# yaml-language-server: $schema=recipe.schema.json`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from .inheritance import EXTENDS, defaults
from .recipe import Recipe

SCHEMA_FILE = Path(__file__).parent / "recipes" / "recipe.schema.json"


def schema() -> dict[str, Any]:
    """JSON Schema (2020-12) of our own spelling; no key is required, since a parent may have it."""
    found = Recipe.model_json_schema()
    found["$schema"] = "https://json-schema.org/draft/2020-12/schema"
    found["title"] = "Hatstand recipe"
    found.pop("required", None)
    for section in found["$defs"].values():
        section.pop("required", None)
    found["properties"].pop("translated")
    found["properties"][EXTENDS] = {
        "type": "string",
        "description": "What this recipe is laid over: a recipe's path, or one of "
        f"{', '.join(defaults())}.",
    }
    return found


def schema_text() -> str:
    """`schema` as it lies in `SCHEMA_FILE`."""
    return json.dumps(schema(), indent=2, ensure_ascii=False) + "\n"
