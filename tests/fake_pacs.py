"A small DICOMweb server in a thread of this process: searches, films out, objects in, and faults on request"

import json
import re
import threading
from collections import Counter
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import BytesIO
from urllib.parse import parse_qsl, urlsplit

import pydicom

_TAGS = {
    "StudyInstanceUID": "0020000D",
    "SeriesInstanceUID": "0020000E",
    "SOPInstanceUID": "00080018",
    "SOPClassUID": "00080016",
    "Modality": "00080060",
}
LIMIT = 3  # rows of an answer to a search, whatever is asked for, unless told otherwise


class FakePacs:
    "Instances by UID, how often each was stored and fetched, and what the server does wrong"

    def __init__(self):
        self.files: dict[str, bytes] = {}
        self.stored, self.fetched = Counter(), Counter()
        self.busy = 0  # requests that are answered by 503 before one is served
        self.refuses = False  # every object
        self.asked: list[tuple[str, dict]] = []  # path and headers of each request
        self.url, self.limit = "", LIMIT
        self._rows: dict[str, dict] = {}

    def add(self, data: bytes):
        ds = pydicom.dcmread(BytesIO(data), stop_before_pixels=True)
        values = {tag: str(ds.get(k, "")) for k, tag in _TAGS.items()}
        self.files[ds.SOPInstanceUID] = data
        self._rows[ds.SOPInstanceUID] = {t: {"vr": "UI", "Value": [v]} for t, v in values.items()}

    def rows(self, study: str = "", modality: str = "") -> list[dict]:
        "Of instances in a study, or of studies"
        rows = [self._rows[uid] for uid in list(self.files)]
        value = lambda row, name: row[_TAGS[name]]["Value"][0]
        if study:
            return [row for row in rows if value(row, "StudyInstanceUID") == study]
        rows = [row for row in rows if modality in ("", value(row, "Modality"))]
        return list({value(row, "StudyInstanceUID"): row for row in rows}.values())


def _handler(pacs: FakePacs):
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_):
            pass

        def answer(self, status, body=b"", kind="application/dicom+json"):
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def do_GET(self):
            pacs.asked.append((self.path, dict(self.headers)))
            if pacs.busy:
                pacs.busy -= 1
                return self.answer(503)
            parts, query = urlsplit(self.path), dict(parse_qsl(urlsplit(self.path).query))
            if match := re.fullmatch(
                r"/studies/[\d.]+/series/[\d.]+/instances/([\d.]+)", parts.path
            ):
                pacs.fetched[match[1]] += 1
                if match[1] not in pacs.files:
                    return self.answer(404)
                body = b"--cut\r\nContent-Type: application/dicom\r\n\r\n"
                body += pacs.files[match[1]] + b"\r\n--cut--\r\n"
                kind = 'multipart/related; type="application/dicom"; boundary=cut'
                return self.answer(200, body, kind)
            match = re.fullmatch(r"/studies(?:/([\d.]+)/instances)?", parts.path)
            rows = pacs.rows(match[1] or "", query.get("ModalitiesInStudy", ""))
            start = int(query.get("offset", 0))
            return self.answer(200, json.dumps(rows[start : start + pacs.limit]).encode())

        def do_POST(self):
            pacs.asked.append((self.path, dict(self.headers)))
            body = self.rfile.read(int(self.headers["Content-Length"]))
            if pacs.busy:
                pacs.busy -= 1
                return self.answer(503)
            boundary = re.search('boundary="?([^";]+)', self.headers["Content-Type"])[1].encode()
            answer = {"00081198": {"vr": "SQ", "Value": []}}
            for part in body.split(b"--" + boundary)[1:-1]:
                data = part.partition(b"\r\n\r\n")[2][:-2]
                ds = pydicom.dcmread(BytesIO(data))
                if pacs.refuses:
                    answer["00081198"]["Value"].append(
                        {"00081197": {"vr": "US", "Value": [0xA700]}}
                    )
                    continue
                pacs.stored[ds.SOPInstanceUID] += 1
                pacs.add(data)
            return self.answer(202 if pacs.refuses else 200, json.dumps(answer).encode())

    return Handler


@contextmanager
def fake_pacs():
    "A server on a free port of this machine"
    pacs = FakePacs()
    with ThreadingHTTPServer(("127.0.0.1", 0), _handler(pacs)) as server:
        server.daemon_threads = True
        pacs.url = f"http://127.0.0.1:{server.server_port}"
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        try:
            yield pacs
        finally:
            server.shutdown()
