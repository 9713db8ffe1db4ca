"""What the API and the projector both know: the write model, events, the outbox and the read models' shape.

Nothing here knows the API or the projector, and importing any of it opens nothing and reads no environment.
"""
