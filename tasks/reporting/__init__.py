"""Reports of published results as HTML pages and text for the terminal.

They read the published database, and the replicates of the cells in it.
"""
