"""A storm: faults at random on real processes under load, a ledger of what clients were told, and a judge of it."""
