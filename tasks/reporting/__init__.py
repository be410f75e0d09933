"""Reports of published results as HTML pages and text for the terminal; it reads the published database only."""
