"""`anabranch audit ...`: the audit log from the command line."""
