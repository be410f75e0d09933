"""The model families: how each model is built, fitted and stored.

Rows come as arrays, or as the path of a Parquet file.
"""
