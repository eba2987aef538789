"""Stands in for Elasticsearch's client, version 7, as far as pytest-benchmark's storage calls it: one JSON file.

Documents are written with the serializer that it is given, as they would be sent, and found by project and prefix.
"""

import json
import os
from pathlib import Path

STORE = Path(os.environ.get("STORE", "store.json"))


class Elasticsearch:
    def __init__(self, hosts, serializer):
        self.serializer = serializer
        self.indices = self

    def create(self, index, ignore, body):
        assert ignore == 400  # it may be there already
        if not STORE.exists():
            STORE.write_text("{}", encoding="utf-8")

    def index(self, index, doc_type, body, id):
        documents = json.loads(STORE.read_text(encoding="utf-8"))
        documents[id] = json.loads(self.serializer.dumps(body))
        STORE.write_text(json.dumps(documents), encoding="utf-8")

    def search(self, index, doc_type, body):
        query = body["query"]["bool"]
        prefix = query.get("must", {}).get("prefix", {}).get("_id", "")
        project = query["filter"]["term"]["commit_info.project"]
        documents = json.loads(STORE.read_text(encoding="utf-8"))
        hits = [
            {"_id": key, "_source": document}
            for key, document in documents.items()
            if key.startswith(prefix) and document["commit_info"]["project"] == project
        ]
        assert body["sort"] == [{"datetime": {"order": "desc"}}]
        hits.sort(key=lambda hit: hit["_source"]["datetime"], reverse=True)
        return {"hits": {"hits": hits[: body["size"]]}}
