"""How is it asked?

The HTTP API, the console and the command line.
"""
