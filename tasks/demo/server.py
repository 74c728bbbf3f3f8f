"""Serves the page: on this machine alone, without any request to another one."""

import argparse
import os
import socket
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tasks.demo.arguments import is_local
from tasks.demo.runs import find_runs
from tasks.errors import TaskError, UsageError

_POLICY = "default-src 'self' 'unsafe-inline' 'unsafe-eval' data: blob:; frame-ancestors 'none'"
"""What the page may ask for: only what its own server has. Gradio's own scripts need inline and eval."""


def serve(options: argparse.Namespace) -> str:
    """Serves until it is stopped, and returns the last line to print.

    Args:
        options: Of the command line.

    Raises:
        TaskError: If there is no run, or the port is taken.
        UsageError: If gradio is not installed.
    """
    with ready(options) as (server, listening):
        host, port = listening.getsockname()[:2]
        shown = f"[{host}]" if ":" in host else host
        sys.stdout.write(f"demo: http://{shown}:{port} (Ctrl-C stops it)\n")
        sys.stdout.flush()
        server.run(sockets=[listening])
    return "stopped"


@contextmanager
def ready(options: argparse.Namespace) -> Iterator[tuple[Any, socket.socket]]:
    """Makes the server and the socket that it listens at; all that it writes is gone at the end."""
    # Before gradio is imported: it would tell its makers, and look for a newer version.
    os.environ |= {"GRADIO_ANALYTICS_ENABLED": "False", "HF_HUB_OFFLINE": "1", "HF_HUB_DISABLE_TELEMETRY": "1"}
    with tempfile.TemporaryDirectory(prefix="onecore-demo-") as folder:
        uploads, work = Path(folder, "uploads"), Path(folder, "work")
        os.environ["GRADIO_TEMP_DIR"] = str(uploads)
        try:
            import gradio  # noqa: F401
            import uvicorn
        except ImportError:
            raise UsageError("the page needs gradio: pip install -e '.[demo]'") from None
        from tasks.demo.page import WORDS, make_page
        from tasks.demo.trial import Trial
        from tasks.trainer_parts import quiet_lightning

        quiet_lightning()
        if not any(find_runs(options.runs, task) for task in WORDS):
            where = f"{options.runs}/TASK/*/checkpoints/best.ckpt"
            raise TaskError(f"--runs={options.runs}: holds no run ({where}); train one: python -m tasks.vit fit")
        uploads.mkdir()
        work.mkdir()
        with _listen(options.host, options.port) as listening:
            app = make_app(make_page(options.runs, Trial(work, uploads), options.max_mb), options)
            yield uvicorn.Server(uvicorn.Config(app, log_level="warning", access_log=False)), listening


def make_app(page: Any, options: argparse.Namespace) -> Any:
    """The page as an application, which answers only those who call it by its own name.

    A web site that its visitor's browser finds under this machine's address (DNS rebinding) calls it by another.
    """
    import gradio as gr
    from fastapi import FastAPI
    from gradio.themes import Default
    from starlette.middleware.trustedhost import TrustedHostMiddleware

    from tasks.demo.page import CSS

    app = FastAPI(openapi_url=None)
    names = [options.host, "127.0.0.1", "localhost", "[::1]"] if is_local(options.host) else ["*"]
    app.add_middleware(TrustedHostMiddleware, allowed_hosts=names, www_redirect=False)

    @app.middleware("http")
    async def restrict(request: Any, call_next: Any) -> Any:
        response = await call_next(request)
        response.headers["Content-Security-Policy"] = _POLICY
        response.headers["X-Content-Type-Options"] = "nosniff"
        response.headers["Referrer-Policy"] = "no-referrer"
        return response

    fonts = ["system-ui", "sans-serif"]
    gr.mount_gradio_app(
        app,
        page,
        path="",
        server_name=options.host,
        theme=Default(font=fonts, font_mono=["ui-monospace", "monospace"]),
        css_paths=[CSS],
        footer_links=[],
        run_history=False,
        ssr_mode=False,
        max_file_size=f"{options.max_mb}mb",
        show_error=True,
        pwa=False,
        mcp_server=False,
    )
    return app


def _listen(host: str, port: int) -> socket.socket:
    try:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        return socket.create_server((host, port), family=family)
    except OSError as error:
        raise TaskError(
            f"--host={host} --port={port}: cannot listen there ({error.strerror}); --port=0 finds a free one"
        ) from None
