"""The figures of a report, each with its finding in words."""
