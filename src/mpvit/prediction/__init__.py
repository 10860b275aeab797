"""Pictures in, classes out."""
