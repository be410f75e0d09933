"""The model families: how each is built, fitted and kept. They see arrays, not tables."""
