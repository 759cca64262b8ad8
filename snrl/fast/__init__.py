"""What makes an update fast, whatever the algorithm."""
