"""The steps that flows put together: pure functions; only `tasks.observed` and `tasks.server` import Prefect."""
