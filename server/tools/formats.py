"""How models write calls: the format is the one that the chat template renders."""

from __future__ import annotations

import secrets
import string
from dataclasses import dataclass
from typing import Literal

ALPHANUMERIC = string.ascii_letters + string.digits


@dataclass(frozen=True)
class ToolFormat:
    """One way to write calls.

    opening: what comes before a call, or before all of them. layout: `tagged`, each call an object
    between two tags; `listed`, all of them objects in one list; `named`, each a name and then its
    arguments.
    """

    name: Literal["hermes", "mistral", "mistral-named"]
    opening: str
    layout: Literal["tagged", "listed", "named"]

    def new_id(self) -> str:
        """A call's id. Mistral's templates refuse other than nine letters and digits."""
        if self.layout == "tagged":
            return f"call_{secrets.token_hex(12)}"
        return "".join(secrets.choice(ALPHANUMERIC) for _ in range(9))


CLOSING = "</tool_call>"  # of a tagged call
ARGUMENTS = "[ARGS]"  # between a call's name and its arguments
HERMES = ToolFormat("hermes", "<tool_call>", "tagged")
MISTRAL = ToolFormat("mistral", "[TOOL_CALLS]", "listed")
MISTRAL_NAMED = ToolFormat("mistral-named", "[TOOL_CALLS]", "named")


def find_format(template: str) -> ToolFormat | None:
    """The format whose words stand in a chat template; None if it has none that is known here.

    Mistral's tokenizers up to v7 list objects, later ones (v11 on) write `name[ARGS]{…}`.
    """
    if MISTRAL.opening in template:
        return MISTRAL_NAMED if ARGUMENTS in template else MISTRAL
    return HERMES if HERMES.opening in template else None
