"""The model families: how each model is built, fitted and stored.

Rows come as arrays, or as rows stored on disk that are read in parts (`rows.StoredRows`).
"""
