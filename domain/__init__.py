"""What copying means. Pure: no I/O, no clock, no randomness, no await; imports nothing of ours."""
