"""Starts the app: settings, service, page. ``rad3d serve`` does the same."""

import sys

if __name__ == "__main__":  # not for the processes of its own that it starts
    from rad3d.core.errors import Rad3dError
    from rad3d.core.settings import Settings
    from rad3d.deploy import space_environment
    from rad3d.ui import leave, serve

    try:
        serve(Settings.from_env(space_environment()))
    except Rad3dError as error:
        sys.exit(f"rad3d: {error}")
    leave()
