"""What each path of a network sees: how far, how much it brings, how alike paths are, and which tokens attend to which.

Pictures are shown to the network as it is; what its parts hold meanwhile is looked at by hooks. ``fields.py`` alone needs
neither pictures nor torch.
"""
