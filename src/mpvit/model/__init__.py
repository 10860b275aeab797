"""The network in torch, written from the paper, and its weights."""
