"""The steps that the flows combine. Only `tasks.orchestration` calls Prefect; the others are plain functions."""
