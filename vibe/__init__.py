"""The composition root: settings, wiring, processes and the command line. The only room that knows every other."""
