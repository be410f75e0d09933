"""Files of a warehouse: where they are, how they are written once, and which processes use them; not their content."""
