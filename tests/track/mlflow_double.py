"""A small MLflow tracking server over HTTP that can go away and come back: the REST calls a run needs, in memory."""

from __future__ import annotations

import json
import threading
from collections import defaultdict
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from uuid import uuid4


class MlflowDouble:
    """away: answer 503 to everything. runs: run id -> {"tags", "params", "metrics", "status", "datasets", "refuse"}."""

    def __init__(self, artifacts: Path, port: int = 0) -> None:
        self.artifacts = artifacts
        self.away = False
        self.refuse_metrics = False
        self.runs: dict[str, dict[str, Any]] = {}
        self.calls: dict[str, int] = defaultdict(int)
        double = self

        class Handler(BaseHTTPRequestHandler):
            def answer(self) -> None:
                length = int(self.headers.get("Content-Length") or 0)
                body = json.loads(self.rfile.read(length) or b"{}")
                path, _, query = self.path.partition("?")
                status, reply = double.reply(path.removeprefix("/api/2.0/mlflow/"), body, query)
                content = json.dumps(reply).encode()
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            do_GET = do_POST = answer

            def log_message(self, *_: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
        self.uri = f"http://127.0.0.1:{self._server.server_address[1]}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)
        self._thread.start()

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    def reply(self, call: str, body: dict[str, Any], query: str) -> tuple[int, dict[str, Any]]:
        if self.away:
            return 503, {"error_code": "TEMPORARILY_UNAVAILABLE", "message": "away"}
        self.calls[call] += 1
        if call == "runs/search":
            wanted = body["filter"].split("'")[1]
            return 200, {"runs": [self.run(key) for key, run in self.runs.items() if wanted in run["tags"].values()]}
        if call == "runs/create":
            key = uuid4().hex
            tags = {tag["key"]: tag["value"] for tag in body["tags"]}
            self.runs[key] = {"tags": tags, "params": {}, "metrics": [], "status": "RUNNING", "datasets": []}
            return 200, {"run": self.run(key)}
        if call == "runs/get":
            return 200, {"run": self.run(query.split("run_id=")[1].split("&")[0])}
        run = self.runs[body["run_id"]]
        if call == "runs/log-batch":
            if self.refuse_metrics and body.get("metrics"):
                return 400, {"error_code": "INVALID_PARAMETER_VALUE", "message": "no such metric here"}
            run["metrics"] += [(m["key"], m["value"], int(m.get("step", 0))) for m in body.get("metrics", [])]
            run["params"] |= {p["key"]: p["value"] for p in body.get("params", [])}
            run["tags"] |= {t["key"]: t["value"] for t in body.get("tags", [])}
        elif call == "runs/update":
            run["status"] = body.get("status", run["status"])
        elif call == "runs/log-inputs":
            run["datasets"] += [entry["dataset"]["digest"] for entry in body["datasets"]]
        else:
            return 404, {"error_code": "ENDPOINT_NOT_FOUND", "message": call}
        return 200, {"run_info": self.run(body["run_id"])["info"]}

    def run(self, key: str) -> dict[str, Any]:
        run = self.runs[key]
        info = {"run_id": key, "experiment_id": "1", "status": run["status"], "artifact_uri": str(self.artifacts / key)}
        data = {kind: [{"key": k, "value": v} for k, v in run[kind].items()] for kind in ("tags", "params")}
        return {"info": info, "data": data}
