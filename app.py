"""Starts the app: settings, service, page. ``rad3d serve`` does the same."""

from rad3d.deploy import space_environment
from rad3d.settings import Settings
from rad3d.ui import serve

if __name__ == "__main__":
    serve(Settings.from_env(space_environment()))
