"""What holds on the real Kafka, the real ClickHouse engine and real processes."""
