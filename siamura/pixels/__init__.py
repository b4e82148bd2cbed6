"""An image's way from a file to the network."""
