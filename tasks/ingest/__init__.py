"""A raw file or URL becomes a snapshot: typed, checked, its bad values told. It makes no features."""
