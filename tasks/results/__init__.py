"""The publication of stored cells as SQL tables, and queries of it."""
