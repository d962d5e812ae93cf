"""Workloads for firn simulate: closures.py GRAPH.json.gz PATHS LINES

Prints one line of a workload, LINES times: names of packages whose closure has PATHS paths or slightly
more.
"""

import gzip
import hashlib
import json
import sys

graph, paths, lines = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
references = {node["name"]: node["references"] for node in json.load(gzip.open(graph))}
image, members = [], set()
for name in sorted(references, key=lambda name: hashlib.sha256(name.encode()).hexdigest()):
    if len(members) >= paths:
        break
    image.append(name)
    waiting = [name]
    while waiting:
        member = waiting.pop()
        if member not in members:
            members.add(member)
            waiting.extend(references[member])
for _ in range(lines):
    print(*image)
