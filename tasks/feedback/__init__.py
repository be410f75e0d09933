"""Feedback on one track: what pushes its prediction up or down, what-if predictions, and similar tracks."""
