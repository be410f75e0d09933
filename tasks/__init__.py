"""The steps that the flows combine. They are plain functions: only `tasks.orchestration` imports Prefect."""
