"""The app: layout, events and the browser side. No maths and no torch here.

``serve(settings)`` is what ``app.py`` and ``rad3d serve`` call; ``build_ui`` and
``launch_options`` are its two halves.
"""

from rad3d.ui.launch import launch_options, leave, serve
from rad3d.ui.page import build_ui

__all__ = ["build_ui", "launch_options", "leave", "serve"]
