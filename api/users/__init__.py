"""Users: the people who own items."""
