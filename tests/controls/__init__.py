"""Negative controls: each takes one guard away, in a copy of the tree, and shows that a test notices it."""
