"""The steps that the flows combine. Only `tasks.orchestration` uses Prefect; the others are plain functions."""
