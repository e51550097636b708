"""What holds? `unit` does no I/O and is guarded; `live` runs on the real Kafka and ClickHouse."""
