"""Predictions of a network for image files, and the networks and weights for them."""
