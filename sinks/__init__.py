"""Where do events rest?

ClickHouse: the one place that imports its client, the migrations, the dead letters, and the
embedded server that stands where a ClickHouse server stands in production.
"""
