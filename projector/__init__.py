"""The projector: brings the read models up to date from the outbox, and the CLI operators use."""
