"""Prints the values of a KV namespace as JSON, in base64: the records in a backend's storage, by their file names,
and the pointer that says that `latest` names their package set now.

    values.py STORAGE TOKEN
"""

import base64
import hashlib
import json
import pathlib
import struct
import sys
import time

storage, token = sys.argv[1:]


def key(*fields):
    """The key that `firn_shared::cache_key` makes of these fields."""
    texts = [field.encode() for field in fields]
    return hashlib.sha256(b"".join(struct.pack("<Q", len(text)) + text for text in texts)).hexdigest()


values = {path.name: path.read_bytes() for path in pathlib.Path(storage, "composition").glob("*/*")}
pointer = {"package_set": token, "checked": int(time.time())}
values[key("tag-1", "latest")] = json.dumps(pointer).encode()
print(json.dumps({name: base64.b64encode(value).decode() for name, value in values.items()}))
