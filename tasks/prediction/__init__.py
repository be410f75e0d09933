"""Predictions for new tracks: the champion models, batch prediction of files, and an HTTP service."""
