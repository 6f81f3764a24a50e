"""Queries on the read models, for commands, pages and APIs: async functions over a connection that return structs.

Amounts are integers of micros (1e-6 of a dollar or share), signed if their name contains delta, share, cash or profit;
times are UTC to the microsecond, durations microseconds, ratios micros (1_000_000 = 1). No query writes. Lists are
newest first and continue after the last row of the page before (`after`), so page 1,000 costs as much as page 1.
"""
