"""The event log on JetStream: topology, envelope, append, read, and the one processor loop."""
