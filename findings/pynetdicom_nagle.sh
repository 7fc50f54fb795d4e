#!/bin/bash
# Every object that pynetdicom sends waits some 40 ms: it writes command and data as two small pieces and leaves Nagle's algorithm on, so that the second waits for
# the other side's delayed acknowledgement. TCP_NODELAY, set when the connection is opened, takes it away. (Linux; other systems wait up to 200 ms.)
set -eu
home=$(mktemp -d); trap 'rm -rf "$home"' EXIT
python3 -m venv "$home/venv"
"$home/venv/bin/pip" install -q --disable-pip-version-check pydicom==3.0.2 pynetdicom==3.0.4
"$home/venv/bin/python" - <<'P'
import socket, statistics, sys, time
import pydicom, pynetdicom
from pydicom.uid import ExplicitVRLittleEndian, ComprehensiveSRStorage
from pynetdicom import AE, evt

ds = pydicom.Dataset()
ds.file_meta = pydicom.dataset.FileMetaDataset()
ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
ds.SOPClassUID, ds.SOPInstanceUID, ds.PatientName = ComprehensiveSRStorage, "1.2.3.4", "Nobody"
server = AE("SCP")
server.add_supported_context(ComprehensiveSRStorage, ExplicitVRLittleEndian)
running = server.start_server(("127.0.0.1", 0), block=False, evt_handlers=[(evt.EVT_C_STORE, lambda event: 0)])
port = running.server_address[1]

def at_once(event):
    event.assoc.dul.socket.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

def milliseconds(handlers):
    ae = AE("SCU")
    ae.add_requested_context(ComprehensiveSRStorage, ExplicitVRLittleEndian)
    association = ae.associate("127.0.0.1", port, evt_handlers=handlers)
    taken = []
    for _ in range(25):
        start = time.perf_counter()
        assert association.send_c_store(ds).Status == 0
        taken.append(1000 * (time.perf_counter() - start))
    association.release()
    return statistics.median(taken)

usual, prompt = milliseconds([]), milliseconds([(evt.EVT_CONN_OPEN, at_once)])
running.shutdown()
print(f"pynetdicom {pynetdicom.__version__}: C-STORE of 400 bytes on loopback, median of 25: {usual:.0f} ms as it is, {prompt:.0f} ms with TCP_NODELAY")
sys.exit(0 if usual > 35 and prompt < usual / 2 else 1)
P
