"""Whatever comes in is read or refused: requests, tokens, payloads, catalogues. `make fuzz` is the long form."""
