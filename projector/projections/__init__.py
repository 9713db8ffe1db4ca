"""Projections: event -> document, pure. And the gate, the only code that writes documents."""
