"""The questions that pages, API and CLI ask of the read models: async functions over a connection, structs back.

Amounts are integers of micros (1e-6 of a dollar or share), signed where they say delta, share, cash or profit; times
are UTC to the microsecond, durations microseconds, ratios micros (1_000_000 = 1). Nothing here writes. Pages go
newest first and continue after the last row seen (`after`), so that page 1,000 costs what page 1 does.
"""
