"""A model of the whole: random commands, relays in any interleaving, and what the read models must come to."""
