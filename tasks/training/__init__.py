"""A feature table and a model become a cell: its key, its run, its stored result."""
