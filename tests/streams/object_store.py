"""A local server in a thread with the part of S3 that an archive uses: create-only puts, ranges, lists in pages."""

import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import md5
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit
from xml.sax.saxutils import escape

PAGE = 3


class ObjectStore(ThreadingHTTPServer):
    """`objects` by key; `requests` counts them by method."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.objects: dict[str, bytes] = {}
        self.requests: dict[str, int] = {}
        self.lock = threading.Lock()

    @property
    def settings(self) -> dict[str, str]:
        """The environment variables with which s3://bucket is on this server."""
        return {
            "AWS_ENDPOINT_URL": f"http://127.0.0.1:{self.server_address[1]}",
            "AWS_ALLOW_HTTP": "true",
            "AWS_ACCESS_KEY_ID": "key",
            "AWS_SECRET_ACCESS_KEY": "secret",
            "AWS_REGION": "eu-central-1",
        }


@contextmanager
def object_store() -> Iterator[ObjectStore]:
    server = ObjectStore()
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: ObjectStore

    def do_PUT(self) -> None:
        content = self.rfile.read(int(self.headers.get("content-length", 0)))
        with self.server.lock:
            exists = self.headers.get("if-none-match") == "*" and self._key in self.server.objects
            if not exists:
                self.server.objects[self._key] = content
        if exists:
            return self._answer(412, b"<Error><Code>PreconditionFailed</Code></Error>")
        return self._answer(200, ETag=_etag(content))

    def do_DELETE(self) -> None:
        self.server.objects.pop(self._key, None)
        self._answer(204)

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("content-length", 0))).decode()
        keys = re.findall("<Key>(.*?)</Key>", body)
        for key in keys:
            self.server.objects.pop(f"/bucket/{key}", None)
        deleted = "".join(f"<Deleted><Key>{key}</Key></Deleted>" for key in keys)
        self._answer(200, f"<DeleteResult>{deleted}</DeleteResult>".encode())

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        if "list-type" in self._query:
            return self._list()
        content = self.server.objects.get(self._key)
        if content is None:
            return self._answer(404, b"<Error><Code>NoSuchKey</Code></Error>")
        headers = {"ETag": _etag(content), "Last-Modified": "Fri, 20 Nov 2026 00:00:00 GMT"}
        wanted = re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers.get("range", ""))
        if wanted is None:
            return self._answer(200, content, **headers)
        start, end = int(wanted[1]), min(int(wanted[2]) + 1, len(content))
        headers["Content-Range"] = f"bytes {start}-{end - 1}/{len(content)}"
        return self._answer(206, content[start:end], **headers)

    def log_message(self, *_: Any) -> None:
        pass

    @property
    def _key(self) -> str:
        return unquote(urlsplit(self.path).path)

    @property
    def _query(self) -> dict[str, str]:
        return {name: values[0] for name, values in parse_qs(urlsplit(self.path).query).items()}

    def _list(self) -> None:
        start = f"/bucket/{self._query.get('prefix', '')}"
        after = self._query.get("continuation-token", "")
        keys = sorted(key for key in self.server.objects if key.startswith(start) and key > after)
        page = keys[:PAGE]
        rows = "".join(
            f"<Contents><Key>{escape(key.removeprefix('/bucket/'))}</Key><Size>{len(self.server.objects[key])}</Size>"
            f"<LastModified>2026-11-20T00:00:00.000Z</LastModified><ETag>&quot;x&quot;</ETag></Contents>"
            for key in page
        )
        more = f"<NextContinuationToken>{escape(page[-1])}</NextContinuationToken>" if len(keys) > PAGE else ""
        truncated = str(len(keys) > PAGE).lower()
        body = f"<ListBucketResult>{rows}<IsTruncated>{truncated}</IsTruncated>{more}</ListBucketResult>"
        self._answer(200, body.encode())

    def _answer(self, status: int, body: bytes = b"", **headers: str) -> None:
        with self.server.lock:
            self.server.requests[self.command] = self.server.requests.get(self.command, 0) + 1
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)


def _etag(content: bytes) -> str:
    return f'"{md5(content).hexdigest()}"'
