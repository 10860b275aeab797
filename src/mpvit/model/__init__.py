"""The network in torch, from the paper, and its weights."""
