"""Upkeep of a warehouse: removal of old files, and a check of all stored files against their checksums."""
