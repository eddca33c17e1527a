"""GET /: a page for whoever opens the server's address in a browser."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

_STYLE = """
:root { color-scheme: light dark; font: 16px/1.5 system-ui, sans-serif; }
body { max-width: 46rem; margin: 3rem auto; padding: 0 1rem; }
pre, code { font-family: ui-monospace, monospace; font-size: .9em; }
pre { padding: .8rem 1rem; border: 1px solid #8886; border-radius: .4rem; overflow-x: auto; }
"""


def render_status_page(
    *, base: str, names: Sequence[str] | None, reasons: Sequence[str], url: str
) -> str:
    """HTML: the base, the adapters (None: keys are asked for, so none are named), how to call."""
    state = "Ready." if not reasons else f"Not ready: {escape('; '.join(reasons))}."
    return f"""<!doctype html>
<html lang="en">
<head><meta charset="utf-8"><title>Hatstand</title>
<meta name="viewport" content="width=device-width, initial-scale=1"><style>{_STYLE}</style></head>
<body>
<h1>Hatstand</h1>
<p>{state} One resident base, <code>{escape(base)}</code>; an adapter per request.</p>
<h2>Adapters</h2>
{_adapters(names)}
<h2>Ask</h2>
<pre>{escape(_example(url, names[0] if names else base, with_key=names is None))}</pre>
<p><a href="/v1/models">/v1/models</a> · <a href="/metrics">/metrics</a> ·
<a href="/readyz">/readyz</a> · <a href="/debug/batches">/debug/batches</a> ·
<a href="/openapi.json">/openapi.json</a></p>
</body>
</html>
"""


def _adapters(names: Sequence[str] | None) -> str:
    if names is None:
        return "<p>Listed at <code>/v1/models</code> for holders of a key.</p>"
    if not names:
        return (
            "<p>None for this base yet. "
            "<code>registry push FOLDER NAME</code> makes one servable at once.</p>"
        )
    items = "".join(f"<li><code>{escape(name)}</code></li>" for name in names)
    return f"<ul>{items}</ul>"


def _example(url: str, model: str, *, with_key: bool) -> str:
    key = "  -H 'Authorization: Bearer KEY' \\\n" if with_key else ""
    return (
        f"curl {url}/v1/chat/completions \\\n{key}"
        "  -H 'Content-Type: application/json' \\\n"
        f"""  -d '{{"model": "{model}", "messages": [{{"role": "user", "content": "Hello"}}]}}'"""
    )
