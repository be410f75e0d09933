"""A snapshot becomes versioned feature tables, checked in SQL. No model is known here."""
