"""What stands around the pages: plotly's script, security headers, and what goes on after the first page."""

import asyncio
import gc
import importlib.util
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from importlib import metadata
from pathlib import Path
from typing import Any

from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import FileResponse
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from kb.web import measuring

PLOTLY_SCRIPT = f"/api/plotly-{metadata.version('plotly')}.min.js"  # which browsers keep until there is another
WARM_UP_DELAY = 2.0

# Streamlit needs inline styles, eval (Vega) and blob workers; everything else stays on this host, its websocket too,
# which 'self' allows.
HEADERS = {
    "Content-Security-Policy": (
        "default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval' blob:; style-src 'self' 'unsafe-inline'; "
        "img-src 'self' data: blob:; font-src 'self' data:; connect-src 'self'; worker-src 'self' blob:; "
        "frame-ancestors 'none'; base-uri 'self'; form-action 'self'; object-src 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
    "X-Frame-Options": "DENY",
}


class SecurityHeaders:
    """Adds `HEADERS` to every HTTP response."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [
                    *message.get("headers", []),
                    *((name.lower().encode(), value.encode()) for name, value in HEADERS.items()),
                ]
            await send(message)

        await self.app(scope, receive, send_with_headers if scope["type"] == "http" else send)


def plotly_script() -> Path:
    """The `plotly.min.js` that the plotly wheel ships."""
    spec = importlib.util.find_spec("plotly")
    assert spec is not None and spec.submodule_search_locations
    return Path(spec.submodule_search_locations[0]) / "package_data" / "plotly.min.js"


async def _serve_plotly(request: Request) -> FileResponse:
    forever = {"Cache-Control": "public, max-age=31536000, immutable"}
    return FileResponse(plotly_script(), media_type="text/javascript", headers=forever)


def _import_torch() -> None:
    importlib.import_module("torch")
    importlib.import_module("plotly.graph_objects")
    # Without Streamlit's collection after every run, what lives for ever is taken out of the collector's sight.
    gc.collect()
    gc.freeze()


async def _warm_up() -> None:
    await asyncio.sleep(WARM_UP_DELAY)
    await asyncio.to_thread(_import_torch)


@asynccontextmanager
async def lifespan(_: Any) -> AsyncIterator[None]:
    """Loads torch in the background once the first page is out, then measures what no one measured here yet."""
    background = asyncio.create_task(measuring.measure_unmeasured(after=_warm_up()))
    yield
    background.cancel()
    with suppress(asyncio.CancelledError):
        await background


ROUTES = [Route(PLOTLY_SCRIPT, _serve_plotly)]
MIDDLEWARE = [Middleware(SecurityHeaders)]
