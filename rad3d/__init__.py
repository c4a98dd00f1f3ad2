"""rad3d: see, compare and adapt language models that write reports for 3D chest CTs.

    import rad3d

    report = rad3d.Reporter.from_pretrained("phantom-l/v3")("scan.nii.gz")
    print(report.text)

Importing this package loads nothing; each name loads what it needs when it is first used.
"""

import importlib
from typing import Any

__version__ = "0.1.0"

__all__ = ["Reporter", "__version__", "label", "load_scan", "phantom", "score"]


def __getattr__(name: str) -> Any:
    if name in __all__:
        return getattr(importlib.import_module("rad3d.api"), name)
    raise AttributeError(f"module 'rad3d' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
