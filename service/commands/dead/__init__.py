"""`anabranch dead ...`: records that could never be stored, for the people who look after them."""
