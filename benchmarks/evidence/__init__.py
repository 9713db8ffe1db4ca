"""EVIDENCE.md, written from running servers on a real catalogue; no number in it is typed by hand."""
