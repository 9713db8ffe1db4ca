"""Reading your own writes: a write waits until its projection can be read, unless the client says otherwise."""
