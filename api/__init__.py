"""The REST API: commands write PostgreSQL, queries read MongoDB, and a write waits until it can be read."""
