"""How does it run?

The embedded stack (a real Kafka, a real ClickHouse engine, the service), its supervisor, the
container image and the compose file.
"""
