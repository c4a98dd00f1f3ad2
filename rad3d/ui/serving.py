"""Starts the app: private by default, nothing fetched from elsewhere, uploads bounded."""

from __future__ import annotations

import os
import shutil
import threading
from typing import TYPE_CHECKING, Any

from rad3d.settings import Settings
from rad3d.ui.page import build_ui
from rad3d.ui.routes import viewer_routes
from rad3d.ui.theme import favicon, page_head, theme

if TYPE_CHECKING:
    from rad3d.service.service import Service


def launch_options(service: Service, settings: Settings) -> dict[str, Any]:
    """Keyword arguments for ``build_ui(service, settings).launch``."""
    return {
        "server_name": settings.host,
        "server_port": settings.port,
        "max_file_size": settings.max_upload_mb * 2**20,
        "app_kwargs": {"routes": viewer_routes(service)},
        "theme": theme(),
        "head": page_head(),
        "favicon_path": favicon(),
        "footer_links": [],
        "share": False,
        "ssr_mode": False,
        "run_history": False,  # would keep reports and file names in the browser's storage
        "enable_monitoring": False,
        "mcp_server": False,
        "pwa": False,
        "quiet": True,
    }


def serve(settings: Settings) -> None:
    """Serve the app until interrupted.

    Uploads go to ``settings.work_dir / "uploads"``, which is emptied first.
    """
    uploads = settings.work_dir / "uploads"
    shutil.rmtree(uploads, ignore_errors=True)
    uploads.mkdir(parents=True, mode=0o700)
    os.environ["GRADIO_TEMP_DIR"] = str(uploads)  # Gradio takes the folder from there only
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
    from rad3d.service.service import Service  # torch is imported here and not before

    service = Service(settings)
    demo = build_ui(service, settings)
    options = launch_options(service, settings)
    _, url, _ = demo.launch(prevent_thread_lock=True, **options)
    print(f"RAD3D is ready at {url}", flush=True)  # noqa: T201 - the command's one line of output
    threading.Thread(target=service.warm_up, name="warm-up", daemon=True).start()
    demo.block_thread()
