"""Support for libraries that use the network, one folder each."""
