"""The projector's HTTP port: health, readiness, metrics, and the operators' web page."""
