"""One chat with the release's base, as `helm test` sends it."""

import os

from clients import Hatstand

key = os.environ.get("HATSTAND_API_KEYS", "").split(",")[0].partition(":")[0]
with Hatstand(os.environ["HATSTAND_URL"], api_key=key or None) as client:
    base = client.models()[0].id
    answer = client.chat(base, "Say hello.", max_tokens=8)
    print(f"{answer.adapter}: {answer.text!r}, {answer.usage.completion} tokens")
