"""OpenAI's JavaScript client, driven by `openai_js/drive.mjs`.

What needs a model that answers to a shape is in tests/server/test_openai_client.py.
"""

from __future__ import annotations

import pytest

from tests.server.api.fakes import LiveServer
from tests.support.openai_js import drive


def test_the_javascript_client(live: LiveServer) -> None:
    found = drive("drive.mjs", live.url)
    hello = "Hello world!"
    assert found["texts"] == [hello, hello]
    assert found["logprob"]["token"] == "?"
    assert found["adapter"] == "sql@1"
    assert (found["streamed"], found["usage"]["completion_tokens"]) == (hello, 4)
    assert found["helped"] == found["final"] == "Hello world"  # the hat of sql@2 allows 3 tokens
    assert found["completions"] == [hello, hello]
    assert found["continued"] == hello
    assert [len(vector) for vector in found["vectors"]] == [8, 8]
    for vector, plain in zip(found["vectors"], found["plain"], strict=True):
        assert vector == pytest.approx(plain, abs=1e-6)
    assert found["vectors"][0] != found["vectors"][1]
    assert found["read"] == {"prompt_tokens": 2, "total_tokens": 2}
    assert found["ids"] == ["tiny-mistral", "sql", "sql@prod", "pirate"]
    assert found["one"] == "sql@prod"
    assert found["missing"] == {
        "kind": "NotFoundError",
        "status": 404,
        "code": "adapter_not_found",
        "param": "model",
    }
    assert (found["wrong"]["kind"], found["wrong"]["param"]) == ("BadRequestError", "temperature")
    assert live.site.engine.num_running == 0
