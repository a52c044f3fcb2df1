"""Choices of the setting `queries`: which examples give batch norm the statistics for a task's queries."""

QUERIES = ("together", "alone")
QUERIES_HELP = (
    "how batch norm treats queries: 'together', by the statistics of all of a task's queries, as the papers "
    "do, which is transductive; 'alone', by those of its support set, in training and test alike"
)
TEST_QUERIES_HELP = (
    "how batch norm treats the queries of a test task: 'together', by the statistics of all of them, which "
    "is transductive; 'alone', by those of its support set, so that no query sees another"
)
"""Help of `QUERIES` for algorithms whose training has no queries."""

JOINABLE_QUERIES = ("together", "joined", "alone")
"""For algorithms that can embed a task's support and queries in one batch."""
JOINABLE_QUERIES_HELP = (
    "how batch norm treats queries: 'together', by the statistics of all of a task's queries; 'joined', by "
    "those of its support and queries in one batch, which leaves the support to be embedded with them; both "
    "are transductive; 'alone', by those of its support set, in training and test alike"
)
