"""POST /v1/responses: OpenAI's newer way to ask, answered by the same chats.

`body.py` and `items.py` read what comes in, `chat.py` makes a chat of it, `document.py` and
`events.py` write the answer, `store.py` keeps it for `previous_response_id`.
"""

from .routes import ONE_RESPONSE, RESPONSES, ResponseRoutes
from .store import ResponseStore, open_responses

__all__ = ["ONE_RESPONSE", "RESPONSES", "ResponseRoutes", "ResponseStore", "open_responses"]
