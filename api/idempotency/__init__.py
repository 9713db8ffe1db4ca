"""The same POST twice is done once: its result is stored in the command's own transaction, and answered again."""
