"""What runs show in Prefect: tasks, executors, artifacts, pages, and the cleanup of crashed runs.

Prefect's server itself is found or started by `flows/server.py`.
"""
