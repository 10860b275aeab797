"""The attention between tokens: one file a kind, its forward and its cost side by side."""
