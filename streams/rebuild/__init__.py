"""How are all tables made anew from the log, while workers go on writing into the live ones?

planning   what is replayed and what is carried over, by the table `batches` and Kafka
claim      one rebuild at a time
fresh      a second database with the same tables, empty
carry_over what Kafka does not hold any more, out of the live tables
replay     what it holds, range by range
swap       each fresh table takes the name of its live one
closing    what workers put into the old tables meanwhile, once more into the new ones

docs/adr/0017 says why that adds up.
"""
