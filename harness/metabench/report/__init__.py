"""From results to summaries over seeds, and from these to tables."""
