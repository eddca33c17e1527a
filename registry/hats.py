"""The hat: what travels with an adapter beside its weights, so that serving matches training."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

from . import schemas
from .canonical import digest_of
from .errors import InvalidHat
from .template_process import template_process
from .templates import render_chat
from .validation import parse_model, parse_object

__all__ = ["HAT_FILE", "TEMPLATE_FILE", "Hat", "Sampling", "render_chat"]

HAT_FILE = "hat.json"
TEMPLATE_FILE = "chat_template.jinja"

# What requests may ask for; no adapter brings more.
HIGHEST_TEMPERATURE = 2
HIGHEST_REPETITION_PENALTY = 10
MAX_STOPS = 16
MAX_STOP_LENGTH = 512  # characters

Stop = Annotated[str, Field(min_length=1)]


class Sampling(BaseModel):
    """Sampling defaults, used where a request says nothing; None leaves the server's default.

    Values over a request's limits are read, since versions of before these were checked have them.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    temperature: float | None = Field(default=None, ge=0)
    top_p: float | None = Field(default=None, gt=0, le=1)
    top_k: int | None = Field(default=None, ge=0)
    min_p: float | None = Field(default=None, ge=0, le=1)
    max_tokens: int | None = Field(default=None, ge=1)
    presence_penalty: float | None = Field(default=None, ge=-2, le=2)
    frequency_penalty: float | None = Field(default=None, ge=-2, le=2)
    repetition_penalty: float | None = Field(default=None, gt=0)

    def check_limits(self) -> None:
        """Raise `InvalidHat` about a default that is more than a request may ask for."""
        for key, highest in self._excess().items():
            raise InvalidHat(
                f"the hat's sampling.{key} is {getattr(self, key):g}, and no request may ask for "
                f"more than {highest}: set it to {highest} or less",
                param=f"sampling.{key}",
            )

    def within_limits(self) -> Sampling:
        """The same, with what is over a request's limits taken down to them."""
        excess = self._excess()
        return self.model_copy(update=excess) if excess else self

    def _excess(self) -> dict[str, int]:
        """The limits that are exceeded, by key."""
        limits = {
            "temperature": HIGHEST_TEMPERATURE,
            "repetition_penalty": HIGHEST_REPETITION_PENALTY,
        }
        return {key: most for key, most in limits.items() if (getattr(self, key) or 0) > most}


class Hat(BaseModel):
    """Prompt template, system prompt, stop strings and sampling defaults of one adapter version.

    `chat_template` None means the base's own. `response_schema` is the JSON Schema that answers
    follow where a request asks for nothing else. Unknown keys are refused by name (`InvalidHat`).
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    system_prompt: str | None = None
    stop: tuple[Stop, ...] = ()
    sampling: Sampling = Sampling()
    response_schema: dict[str, Any] | None = None
    chat_template: str | None = None

    def check_limits(self) -> None:
        """Raise `InvalidHat` about what is more than a request may ask for.

        A hat that has more is read: versions of before these were checked may.
        """
        if len(self.stop) > MAX_STOPS:
            raise InvalidHat(
                f"the hat has {len(self.stop)} stop strings, and no request may have more than "
                f"{MAX_STOPS}: each costs every token that is generated",
                param="stop",
            )
        for index, stop in enumerate(self.stop):
            if len(stop) > MAX_STOP_LENGTH:
                raise InvalidHat(
                    f"the hat's stop.{index} has {len(stop)} characters, and no request's may "
                    f"have more than {MAX_STOP_LENGTH}",
                    param=f"stop.{index}",
                )
        self.sampling.check_limits()

    @classmethod
    def from_parts(cls, hat_json: bytes | None, template: bytes | None) -> Hat:
        """Read the bytes of `hat.json` and `chat_template.jinja`, either of which may be missing.

        Raises `InvalidHat`, or `TemplateFailed` when the template does not compile.
        """
        values: dict[str, Any] = {}
        if hat_json is not None:
            values = parse_object(hat_json, source=HAT_FILE, error=InvalidHat)
        if "chat_template" in values:
            raise InvalidHat(
                f"{HAT_FILE}: the template goes into {TEMPLATE_FILE}, not into a key",
                param="chat_template",
            )
        if template is not None:
            try:
                values["chat_template"] = template.decode()
            except UnicodeDecodeError as failure:
                raise InvalidHat(
                    f"{TEMPLATE_FILE} is not UTF-8: {failure}", param="chat_template"
                ) from None
            template_process().check(values["chat_template"])
        hat = parse_model(cls, values, source=HAT_FILE, error=InvalidHat)
        _check_schema(hat.response_schema)
        return hat

    @classmethod
    def read(cls, folder: Path) -> Hat:
        """The hat of an adapter folder; a folder without one wears an empty hat."""
        return cls.from_parts(
            _bytes_if_there(folder / HAT_FILE), _bytes_if_there(folder / TEMPLATE_FILE)
        )

    def write(self, folder: Path) -> None:
        """Write `hat.json` and `chat_template.jinja`, so that `Hat.read(folder) == self`."""
        values = self.model_dump(mode="json", exclude={"chat_template"}, exclude_defaults=True)
        text = json.dumps(values, indent=2, ensure_ascii=False) + "\n"
        (folder / HAT_FILE).write_bytes(text.encode())
        template = folder / TEMPLATE_FILE
        if self.chat_template is None:
            template.unlink(missing_ok=True)  # a leftover template would become this hat's
        else:
            template.write_bytes(self.chat_template.encode())

    @property
    def template_sha256(self) -> str | None:
        """The digest of the template's bytes, as `Lock.template_sha256` records it."""
        return None if self.chat_template is None else digest_of(self.chat_template.encode())

    def apply(self, messages: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
        """Put the system prompt first, unless the request brings a system message of its own."""
        own = any(message.get("role") == "system" for message in messages)
        if self.system_prompt is None or own:
            return list(messages)
        return [{"role": "system", "content": self.system_prompt}, *messages]


def _check_schema(schema: Mapping[str, Any] | None) -> None:
    fault = None if schema is None else schemas.find_fault(schema)
    if fault is not None:
        param = fault.below("response_schema")
        raise InvalidHat(f"{HAT_FILE}: {param}: {fault.reason}", param=param)


def _bytes_if_there(path: Path) -> bytes | None:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return None
