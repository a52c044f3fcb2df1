"""Published results: verified, complete, copied, run again."""

from metabench.publishing.publish import publish, readme, stale, write_readme

__all__ = ["publish", "readme", "stale", "write_readme"]
