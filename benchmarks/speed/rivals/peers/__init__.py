"""Other outbox relays and queues on PostgreSQL, each handling messages by writing the product's documents to MongoDB.

Each file is run by the Python of a virtual environment of its own, which the benchmark makes: `FILE fill N`, then `FILE
drain N`. It may import nothing of the product. `worker.py` has what they share.
"""
