"""Users: directories, entities, and what a human and a persona are made of.

It talks to storage only through the bus.
"""
