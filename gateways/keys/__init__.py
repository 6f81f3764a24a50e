"""Private keys of agents: the encrypted keystore, and the other places that they may come from."""
