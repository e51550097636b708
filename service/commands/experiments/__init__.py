"""`anabranch experiments ...`: experiments from the command line, by way of the HTTP API."""
