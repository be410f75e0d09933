"""Published results become pages and text in the terminal. It asks the database alone."""
