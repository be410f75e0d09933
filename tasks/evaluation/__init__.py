"""How good predictions are and how sure that is. It sees arrays alone: no file, no database, no model."""
