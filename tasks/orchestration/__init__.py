"""Everything that talks to Prefect: tasks, executors, artifacts, pages, and the cleanup of crashed runs."""
