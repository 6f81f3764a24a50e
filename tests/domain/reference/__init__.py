"""The decision as one straight line, request by request: every sum over everything, every order walked level by level.

`domain` must equal it in every field (tests/domain/test_decision_equals_reference.py). It is written to be read, not to
be fast, and shares with `domain` only the declarations, the facts of a portfolio, and the arithmetic.
"""
