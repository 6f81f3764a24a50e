"""The rules of copying: no I/O, no clock, no randomness, no await; imports no other package of this repository."""
