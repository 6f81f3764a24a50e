"""Metrics of the log as a whole, of the machine, and of the processes of a supervised group."""

from prometheus_client import Counter, Gauge

UP = Gauge("vibe_process_up", "1 while a process of the group is ready", ["name"])
RESTARTS = Counter("vibe_process_restarts_total", "Restarts of a process that died", ["name"])

STREAM_MESSAGES = Gauge("vibe_stream_messages", "Messages in the stream", ["stream"])
STREAM_BYTES = Gauge("vibe_stream_bytes", "Bytes of the stream on disk", ["stream"])
STREAM_LAST = Gauge("vibe_stream_last_sequence", "The sequence of the stream's last message", ["stream"])
STREAM_MISSING = Gauge(
    "vibe_stream_missing_messages", "Messages that the stream lacks between its first and its last", ["stream"]
)
CONSUMER_WAITING = Gauge("vibe_consumer_waiting", "Messages that a consumer has not finished", ["stream", "consumer"])
LOG_READ = Gauge("vibe_log_read_timestamp_seconds", "When these figures of the log were read last")

DISK_FREE = Gauge("vibe_disk_free_bytes", "Free space on the disk of the data folder")
DISK_SIZE = Gauge("vibe_disk_size_bytes", "Size of the disk of the data folder")
JOB_FAILED = Gauge("vibe_daily_job_failed", "1 while the last run of a daily job failed", ["job"])
JOB_SUCCESS = Gauge("vibe_daily_job_success_timestamp_seconds", "When a daily job was done last", ["job"])
