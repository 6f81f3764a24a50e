"""One file per stage: what it reads, what it decides, what it writes. The rules are the domain's."""
