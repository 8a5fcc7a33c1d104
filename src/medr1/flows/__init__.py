"""What puts the parts together."""
