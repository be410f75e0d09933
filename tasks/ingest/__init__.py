"""Turns a raw file or URL into a snapshot: typed and checked, with its bad values reported. Builds no features."""
