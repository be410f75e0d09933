"""Builds versioned feature tables from a snapshot and checks them in SQL. This package does not depend on models."""
