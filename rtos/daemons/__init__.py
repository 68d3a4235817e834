"""The daemons. They never import each other: they talk over the bus."""
