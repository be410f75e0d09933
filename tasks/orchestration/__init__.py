"""Everything that talks to Prefect: tasks, artifacts, pages, runs that crashed."""
