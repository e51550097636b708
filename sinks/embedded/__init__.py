"""How is a ClickHouse had without a server? chDB's engine behind the ClickHouse HTTP protocol.

A request goes: server -> access -> parameters -> intake (body to statement and file) ->
queries (a place, a connection, the engine) -> answers (the result, compressed, back to the client).
"""
