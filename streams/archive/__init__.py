"""The cold tier: closed days of the streams as Parquet files in a folder or an object store (DESIGN 8).

write.py     exports closed days, verified before they count
manifest.py  which file holds which sequences: an unbroken chain for each stream
rows.py      messages to rows and back, byte for byte
read.py      replays a stream from its archive, and then from the log
query.py     SQL over cold and hot as one
status.py    how far the archive is, and what an age limit is about to drop
"""
