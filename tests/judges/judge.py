"""Judges a bill of materials by the format's own library: `judge.py cyclonedx|spdx FILE`.

Prints the names and versions in it, sorted, as JSON. Fails with the library's complaints if the document is invalid.
"""
import json
import sys

IMAGE = "SPDXRef-image"


def cyclonedx(path):
    from cyclonedx.schema import SchemaVersion
    from cyclonedx.validation.json import JsonStrictValidator

    with open(path, encoding="utf-8") as file:
        text = file.read()
    complaint = JsonStrictValidator(SchemaVersion.V1_6).validate_str(text)
    if complaint:
        sys.exit(f"{path}: {complaint}")
    return [(one["name"], one.get("version")) for one in json.loads(text)["components"]]


def spdx(path):
    from spdx_tools.spdx.parser.parse_anything import parse_file
    from spdx_tools.spdx.validation.document_validator import validate_full_spdx_document

    document = parse_file(path)
    complaints = validate_full_spdx_document(document, "SPDX-2.3")
    if complaints:
        sys.exit("\n".join(f"{complaint.context}: {complaint.validation_message}" for complaint in complaints))
    return [(one.name, one.version) for one in document.packages if one.spdx_id != IMAGE]


if __name__ == "__main__":
    form, path = sys.argv[1:]
    named = {"cyclonedx": cyclonedx, "spdx": spdx}[form](path)
    print(json.dumps(sorted(named, key=lambda one: (one[0], one[1] or ""))))
