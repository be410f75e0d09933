"""The model families: how each model is built, fitted and stored. This package sees arrays, not tables."""
