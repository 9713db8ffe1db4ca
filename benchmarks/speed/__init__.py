"""How fast it is, as ratios to what the databases and others can do, measured in one run: `make bench`."""
