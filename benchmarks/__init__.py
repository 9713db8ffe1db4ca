"""What is measured and shown: `make evidence` writes EVIDENCE.md from here."""
