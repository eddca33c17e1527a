"""From a YAML file and `--set` assignments to a `Recipe`, or to errors that name line and key."""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from registry.errors import RegistryError
from registry.hats import Hat

from .errors import RecipeError
from .inheritance import with_inherited
from .located import KeyPath, Located, assignment, lay
from .paths import anchor
from .recipe import HatSettings, Recipe
from .translation import translate

# pydantic's words for a type, and a recipe writer's.
_EXPECTED = {
    "a valid array": "a list",
    "a valid tuple": "a list",
    "a valid boolean": "true or false",
    "a valid integer": "a whole number",
    "a valid number": "a number",
    "a valid string": "text",
    "an object": "a section of `key: value` lines",
    "a valid dictionary": "a section of `key: value` lines",
}


def read_recipe(path: Path, overrides: Sequence[str] = ()) -> Recipe:
    """The recipe at `path`, over what it extends and under `overrides` (`train.epochs=2`).

    Other programs' keys are translated, relative paths are resolved against the folder of the
    file that has them, and `chat_template_file` is read into `chat_template`. Raises
    `RecipeError` with every problem found.
    """
    located = with_inherited(path)
    for text in overrides:
        located = lay(located, anchor(translate(assignment(text)), path.parent))
    recipe = validate(noted(located))
    recipe = recipe.model_copy(update={"hat": _with_template(recipe.hat, located)})
    try:
        # Built through the registry's own check, so that a template that does not compile is
        # found now and not after an hour of training.
        template = recipe.hat.chat_template
        Hat.from_parts(None, None if template is None else template.encode())
    except RegistryError as error:
        raise RecipeError([f"{located.place(('hat', 'chat_template'))}: {error}"]) from error
    return recipe


def noted(located: Located) -> Located:
    """With what reading took differently written down under `translated`."""
    if not located.notes:
        return located
    notes = dict.fromkeys([*(located.get(("translated",)) or ()), *located.notes])
    return replace(located, tree={**located.tree, "translated": list(notes)})


def validate(located: Located) -> Recipe:
    """Check types and keys; raises `RecipeError` naming the place of each problem."""
    try:
        # By way of JSON: there a list may become a tuple and a text a path, while a quoted
        # number still is no number.
        return Recipe.model_validate_json(json.dumps(located.tree), strict=True)
    except ValidationError as failure:
        raise RecipeError(list(_problems(failure, located))) from failure


def _problems(failure: ValidationError, located: Located) -> Iterator[str]:
    """One line for each key at fault; the alternatives of a union are joined by "or"."""
    found: dict[KeyPath, list[str]] = {}
    for error in failure.errors(include_url=False):
        path = tuple(error["loc"])
        if error["type"] == "missing":
            known = located.known(path[:-1])
            found.setdefault((*known, path[-1]), []).append("this key is missing")
        else:
            found.setdefault(located.known(path), []).append(_complaint(error, path))
    for path, complaints in found.items():
        name = ".".join(map(str, path)) or "recipe"
        text = " or ".join(dict.fromkeys(complaints))
        got = f", got {_value(located.tree, path)!r}" if text.startswith("expected") else ""
        yield f"{located.place(path)}: `{name}`: {text}{got}"


def _complaint(error: ErrorDetails, path: KeyPath) -> str:
    if error["type"] == "extra_forbidden":
        return f"unknown key{_hint(path)}"
    message = error["msg"].removeprefix("Value error, ")
    if message.startswith("Input should be "):
        expected = message.removeprefix("Input should be ")
        return f"expected {_EXPECTED.get(expected, expected)}"
    return message


def _hint(path: KeyPath) -> str:
    """The nearest right key beside a wrong one, or else the section that has such a key."""
    name = str(path[-1])
    beside = _keys(path[:-1])
    close = difflib.get_close_matches(name, beside, n=1, cutoff=0.6)
    if close:
        return f"; did you mean `{'.'.join(map(str, (*path[:-1], close[0])))}`?"
    everywhere = {
        key: f"{section}.{key}" for section in Recipe.model_fields for key in _keys((section,))
    }
    close = difflib.get_close_matches(name, everywhere, n=1, cutoff=0.8)
    if close:
        return f"; did you mean `{everywhere[close[0]]}`?"
    return f"; known here: {', '.join(beside)}" if beside else ""


def _keys(path: KeyPath) -> list[str]:
    """The keys a recipe may have at `path`."""
    model: type[BaseModel] = Recipe
    for part in path:
        field = model.model_fields.get(str(part))
        if field is None:
            return []
        kinds = [field.annotation, *get_args(field.annotation)]
        models = [k for k in kinds if isinstance(k, type) and issubclass(k, BaseModel)]
        if not models:
            return []
        model = models[0]
    return list(model.model_fields)


def _value(tree: Any, path: KeyPath) -> Any:
    for part in path:
        tree = tree[part]
    return tree


def _with_template(hat: HatSettings, located: Located) -> HatSettings:
    if hat.chat_template_file is None:
        return hat
    try:
        template = hat.chat_template_file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        place = located.place(("hat", "chat_template_file"))
        raise RecipeError([f"{place}: cannot be read: {error}"]) from error
    return hat.model_copy(update={"chat_template": template, "chat_template_file": None})
