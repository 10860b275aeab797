"""What each path of a network does: its receptive field, its contribution, its similarity to others, its attention maps."""
