"""The peers, each a program of its own, written for speed as its project recommends."""
