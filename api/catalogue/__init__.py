"""The catalogue: users and items by the thousand, from a file, made up for volume, or the demo data."""
