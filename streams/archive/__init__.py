"""The archive: closed days of the streams as Parquet files in a folder or an object store (docs/design.md, archive).

export.py           exports closed days and reads them back before they count as archived
day_boundaries.py   the sequence at which each day of a stream ends
manifest.py         which file holds which sequences: an unbroken chain for each stream
arrow_rows.py       converts messages to rows and back, byte for byte
parquet_file.py     writes and reads one file
store.py            the files of an archive, in a folder or an object store
archived_replay.py  replays a stream from its archive, then from the log
query.py            SQL over archived and live events together
status.py           how far each stream is archived, and which days an age limit is about to remove
"""
