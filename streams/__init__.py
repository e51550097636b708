"""How do events move?

Topics made and read on Kafka; the Faust app, its batched transport, the ledger and the agents.
"""
