"""What does a service import?

The SDK: typed events, the emitter that never blocks or breaks the request path, pseudonyms.
"""
