"""What is an event?

The `.avsc` files say what each event means, field by field; `topics.py` names every topic once;
`compatibility.py` holds a changed schema against everything that was ever released.
"""
