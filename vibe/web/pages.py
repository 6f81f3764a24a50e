"""The pages' own files, which `ui/` is built into; without them a page says how to build them."""

from __future__ import annotations

from pathlib import Path

from aiohttp import web

FOLDER = Path(__file__).with_name("static")
"""Where the build of the package puts the pages."""

_NOT_BUILT = """<!doctype html>
<html lang="en">
<head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>Vibe Copy Trading</title></head>
<body>
<h1>The pages were not built</h1>
<p>The API answers under <a href="/api/v1/openapi.json">/api/v1</a>. The pages are built when the package is
installed; that step was skipped, because VIBE_SKIP_UI was set or npm could not be reached.</p>
<p>To build them: <code>rm .venv/.installed &amp;&amp; make install</code></p>
</body>
</html>
"""

_TYPES = {
    ".html": "text/html",
    ".js": "text/javascript",
    ".css": "text/css",
    ".svg": "image/svg+xml",
    ".json": "application/json",
    ".txt": "text/plain",
}


def add_pages(app: web.Application, folder: Path) -> None:
    """Serve the files of `folder` at the root: hashed assets for ever, index.html always asked for anew."""
    files = {
        path.relative_to(folder).as_posix(): path
        for path in (folder.rglob("*") if folder.is_dir() else ())
        if path.is_file() and path.suffix in _TYPES
    }

    async def index(_: web.Request) -> web.StreamResponse:
        if "index.html" not in files:
            return web.Response(text=_NOT_BUILT, content_type="text/html", headers={"Cache-Control": "no-cache"})
        return _file(files["index.html"], cached=False)

    async def asset(request: web.Request) -> web.StreamResponse:
        name = request.match_info["name"]
        if name not in files:
            raise web.HTTPNotFound
        return _file(files[name], cached=name.startswith("assets/"))

    app.router.add_get("/", index)
    app.router.add_get(r"/{name:(?!api/).+}", asset)


def _file(path: Path, *, cached: bool) -> web.StreamResponse:
    # FileResponse sends the .gz beside a file to browsers that take it.
    response = web.FileResponse(path)
    response.content_type = _TYPES[path.suffix]
    response.headers["Cache-Control"] = "public, max-age=31536000, immutable" if cached else "no-cache"
    return response
