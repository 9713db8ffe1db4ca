"""Who may do what in the two servers: declared as data, made by api/scripts/roles.py, looked at by the doctor."""
