"""mastio: one site file becomes a complete, role-separated mail infrastructure."""

__version__ = "0.1.0"
