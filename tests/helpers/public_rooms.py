"""The packages and modules of metabench that plugins import."""

ROOMS = frozenset({
    "metabench", "metabench.data", "metabench.deprecation", "metabench.device", "metabench.engine",
    "metabench.errors", "metabench.learning", "metabench.records", "metabench.report", "metabench.settings",
    "metabench.stats", "metabench.testing",
})  # fmt: skip
