"""Processes that train cells and live progress. It knows nothing about music."""
