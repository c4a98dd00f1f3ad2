"""Start the app (what app.py does) and print its address.

Everything else is set by the environment: RAD3D_HOST, RAD3D_PORT, RAD3D_MAX_UPLOAD_MB and the
other fields of rad3d.core.settings.Settings.
"""

from __future__ import annotations

import argparse
from dataclasses import replace

from rad3d.commands.options import add_device_options, with_device_options
from rad3d.core.settings import Settings

EXAMPLE = """
rad3d serve
rad3d serve --host 0.0.0.0 --port 8080
RAD3D_MAX_UPLOAD_MB=1000 rad3d serve
"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Arguments of ``rad3d serve``."""
    parser.add_argument("--host", help="address to listen on (default: RAD3D_HOST or 127.0.0.1)")
    parser.add_argument("--port", type=int, help="port (default: RAD3D_PORT or 7860)")
    add_device_options(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Serve until interrupted."""
    settings = with_device_options(Settings.from_env(), args)
    if args.host is not None:
        settings = replace(settings, host=args.host)
    if args.port is not None:
        settings = replace(settings, port=args.port)

    from rad3d.ui import leave, serve

    serve(settings)
    leave()
