"""One track explained: what pushes its prediction, what if, and the tracks like it."""
