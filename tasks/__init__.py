"""The steps that flows put together: pure functions; only `tasks.observed` imports Prefect."""
