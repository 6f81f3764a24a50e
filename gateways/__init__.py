"""The outside world: venues, servers, databases. Foreign errors are translated at this edge."""
