"""The transactional outbox: messages that commands append and the projector claims."""
