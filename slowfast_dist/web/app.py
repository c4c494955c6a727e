"""The addresses of a command's page behind the guards of `access`, and errors in one line each."""

from collections.abc import Sequence

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route

from slowfast_dist.web.access import SameOriginMiddleware, TokenMiddleware, error_response


def make_guarded_app(
    routes: Sequence[Route], host: str, port: int, token: str | None
) -> Starlette:
    """``host``, ``port``: the address listened on; ``token``: what all have to show, None:
    nothing."""
    app = Starlette(
        routes=list(routes),
        middleware=[
            Middleware(SameOriginMiddleware, host=host),
            *([Middleware(TokenMiddleware, token=token, port=port)] if token else ()),
        ],
        exception_handlers={HTTPException: _show_error, ClientDisconnect: _forget_client},
    )
    app.router.redirect_slashes = False
    return app


async def _show_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    texts = {404: "there is nothing here", 405: f"not with {request.method}"}
    text = texts.get(error.status_code, error.detail)
    return error_response(error.status_code, text, error.headers)


async def _forget_client(request: Request, error: Exception) -> Response:
    return Response(status_code=400)  # which nobody reads
