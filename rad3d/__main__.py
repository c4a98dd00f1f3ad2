"""``python -m rad3d`` is the command ``rad3d``."""

from rad3d.cli import main

raise SystemExit(main())
