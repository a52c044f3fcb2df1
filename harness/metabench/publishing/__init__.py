"""Published results: verified, complete, copied, run again."""

from metabench.publishing.completeness import MissingResults
from metabench.publishing.findings import Finding
from metabench.publishing.installation import InstalledSuite
from metabench.publishing.publish import publish, readme, stale, write_readme
from metabench.publishing.verify import Verified, verify

__all__ = [
    "Finding",
    "InstalledSuite",
    "MissingResults",
    "Verified",
    "publish",
    "readme",
    "stale",
    "verify",
    "write_readme",
]
