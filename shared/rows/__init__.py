"""Rows of the write model as commands hold them: plain, frozen, without an ORM. shared/write_model has the tables."""
