"""The structure of the network: its configuration, its variants and its operations in closed form."""
