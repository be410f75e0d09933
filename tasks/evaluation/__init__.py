"""Metrics of predictions and their uncertainty, computed from arrays: no files, no database, no models."""
