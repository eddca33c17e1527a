"""The `response` object, from its first moment to its end."""

from __future__ import annotations

import secrets
import time
from dataclasses import dataclass, field
from typing import Any

from server.api.documents.chat import ChatCall
from server.api.documents.response import (
    OutputCall,
    OutputItem,
    OutputMessage,
    OutputText,
    ResponseObject,
    ResponseUsage,
    Status,
)
from server.api.documents.usage import Usage
from server.api.job import Job

from .body import ResponsesBody, SchemaFormat


def new_id(kind: str) -> str:
    return f"{kind}_{secrets.token_hex(24)}"


@dataclass
class ResponseDocument:
    """Grows with its output; `render` writes it as it is by now. `is_kept`: somebody may go on
    from it."""

    body: ResponsesBody
    job: Job
    is_kept: bool
    id: str = field(default_factory=lambda: new_id("resp"))
    output: list[OutputItem] = field(default_factory=list)
    finish_reason: str | None = None
    usage: Usage | None = None

    @property
    def status(self) -> Status:
        if self.finish_reason is None:
            return "in_progress"
        return "incomplete" if self.finish_reason == "length" else "completed"

    def render(self) -> ResponseObject:
        """The whole object."""
        body, is_cut = self.body, self.status == "incomplete"
        return {
            "id": self.id,
            "object": "response",
            "created_at": self.job.created,
            "completed_at": int(time.time()) if self.status == "completed" else None,
            "status": self.status,
            "background": False,
            "error": None,
            "incomplete_details": {"reason": "max_output_tokens"} if is_cut else None,
            "instructions": body.instructions,
            "max_output_tokens": body.max_output_tokens,
            "max_tool_calls": None,
            "metadata": body.metadata or {},
            "model": self.job.model.name,
            "output": list(self.output),
            "parallel_tool_calls": body.parallel_tool_calls is not False,
            "previous_response_id": body.previous_response_id,
            "reasoning": {"effort": None, "summary": None},
            "service_tier": None,
            "store": self.is_kept,
            "system_fingerprint": self.job.model.system_fingerprint,
            "temperature": body.temperature,
            "text": {"format": _format(body)},
            "tool_choice": _tool_choice(body),
            "tools": [tool.model_dump() for tool in body.tools or ()],
            "top_p": body.top_p,
            "truncation": "disabled",
            "usage": None if self.usage is None else _usage(self.usage),
            "user": body.user,
        }


def text_part(text: str) -> OutputText:
    """Words, as a part of an item."""
    return {"type": "output_text", "text": text, "annotations": [], "logprobs": []}


def message_item(item_id: str, text: str, status: Status) -> OutputMessage:
    """Words, as an item of the output."""
    part = text_part(text)
    content = [part] if text or status == "completed" else []
    return {
        "id": item_id,
        "type": "message",
        "role": "assistant",
        "status": status,
        "content": content,
    }


def call_item(item_id: str, call: ChatCall, status: Status) -> OutputCall:
    """A call, as an item of the output; `call` as a chat's message has it."""
    return {
        "id": item_id,
        "type": "function_call",
        "status": status,
        "call_id": call["id"],
        "name": call["function"]["name"],
        "arguments": call["function"]["arguments"],
    }


def _format(body: ResponsesBody) -> dict[str, Any]:
    form = None if body.text is None else body.text.format
    if form is None:
        return {"type": "text"}
    if isinstance(form, SchemaFormat):
        return form.model_dump(by_alias=True)
    return {"type": form.type}


def _tool_choice(body: ResponsesBody) -> Any:
    choice = body.tool_choice
    if choice is None:
        return "auto"
    return choice if isinstance(choice, str) else choice.model_dump()


def _usage(counts: Usage) -> ResponseUsage:
    return {
        "input_tokens": counts["prompt_tokens"],
        "input_tokens_details": counts["prompt_tokens_details"],
        "output_tokens": counts["completion_tokens"],
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": counts["total_tokens"],
    }
