"""rad3d: see, compare and adapt language models that write reports for 3D chest CTs."""

__version__ = "0.1.0"
