"""Old files go, and what is stored is checked against what was written."""
