"""The embedded servers and `kata`: a real PostgreSQL, a real mongod, and our processes on top of them.

Nothing here imports api, projector or shared: they are started as processes, the way an operator would start
them. Everything listens on 127.0.0.1 only.
"""
