"""The whole way from Kafka to ClickHouse, beside the peers: the same job for everybody."""
