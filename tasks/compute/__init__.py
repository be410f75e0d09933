"""Child processes that train cells, a Dask client, and a progress display. Nothing here depends on music."""
