"""The steps that flows put together: pure functions; only `tasks.orchestration` imports Prefect."""
