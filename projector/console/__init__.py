"""The projector's HTTP port: health, readiness and metrics."""
