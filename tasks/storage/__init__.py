"""Where a warehouse's files are, how each is written once, and who uses them. It does not know what is in them."""
