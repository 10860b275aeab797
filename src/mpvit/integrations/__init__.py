"""What lets other libraries use the network; each needs an extra of the installation, and is imported by name."""
