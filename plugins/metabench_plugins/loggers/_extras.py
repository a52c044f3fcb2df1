"""What a logger says where the packages of its extra are missing."""

from importlib.util import find_spec


def missing(extra: str, *packages: str) -> str | None:
    """Return which of these packages is not installed and the command that mends it, or None."""
    absent = [package for package in packages if find_spec(package) is None]
    return f"needs {', '.join(absent)}: pip install 'metabench[{extra}]'" if absent else None
