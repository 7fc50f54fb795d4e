#!/bin/bash
# dicomweb-client asks a busy server (503) again. An object of up to chunk_size bytes (1 MB) arrives whole the second time; a larger one is sent as a stream that the
# first attempt has used up, so the second arrives empty, and what the server answers to that is taken for the answer to the store.
set -eu
home=$(mktemp -d); trap 'rm -rf "$home"' EXIT
python3 -m venv "$home/venv"
"$home/venv/bin/pip" install -q --disable-pip-version-check pydicom==3.0.2 dicomweb-client==0.61.2
"$home/venv/bin/python" - <<'P'
import logging, sys, threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from importlib.metadata import version
import pydicom
from dicomweb_client import DICOMwebClient
from pydicom.uid import ExplicitVRLittleEndian, SecondaryCaptureImageStorage

logging.disable(logging.CRITICAL)
received = []

class Busy(BaseHTTPRequestHandler):
    "503 to the first request, 200 to the next; the bytes that came are counted"
    def log_message(self, *_): pass
    def do_POST(self):
        if self.headers.get("Transfer-Encoding") == "chunked":
            size = 0
            while length := int(self.rfile.readline(), 16):
                size += len(self.rfile.read(length)); self.rfile.readline()
            self.rfile.readline()
        else:
            size = len(self.rfile.read(int(self.headers["Content-Length"])))
        received.append(size)
        self.send_response(503 if len(received) % 2 else 200)
        self.send_header("Content-Length", "0"); self.end_headers()

server = HTTPServer(("127.0.0.1", 0), Busy)
threading.Thread(target=server.serve_forever, daemon=True).start()
client = DICOMwebClient(f"http://127.0.0.1:{server.server_port}")
client.set_http_retry_params(True, 3, 1)

def stored(size):
    ds = pydicom.Dataset()
    ds.file_meta = pydicom.dataset.FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    ds.SOPClassUID, ds.SOPInstanceUID, ds.StudyInstanceUID = SecondaryCaptureImageStorage, "1.2.3", "1.2"
    ds.add_new(0x00091001, "OB", bytes(size))
    received.clear()
    client.store_instances([ds])  # raises nothing
    return list(received)

small, large = stored(500_000), stored(3_000_000)
print(f"dicomweb-client {version('dicomweb-client')}, bytes at the first and the second attempt: of 0.5 MB {small}, of 3 MB {large}")
sys.exit(0 if small[0] == small[1] > 500_000 and large[0] > 3_000_000 and large[1] == 0 else 1)
P
