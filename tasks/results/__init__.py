"""Stored cells become SQL tables that anyone can query."""
