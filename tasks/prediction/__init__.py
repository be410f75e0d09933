"""Which models predict new tracks, and how: champions, files in batches, an HTTP service."""
