"""Sentences per CPU-second of torch on a BERT encoder, one thread.

Usage: torch_minilm.py MODEL ROWS SECONDS
Runs on Debian's own Python with python3-torch; needs no other package.
"""

import json
import sys
import time
from pathlib import Path

import torch
from torch.nn import functional as F

TOKENS = 128


def tensors(path):
    """The F32 tensors of a safetensors file, by name."""
    data = path.read_bytes()
    start = 8 + int.from_bytes(data[:8], "little")
    header = json.loads(data[8:start])
    header.pop("__metadata__", None)
    found = {}
    for name, entry in header.items():
        if entry["dtype"] == "F32":
            first, last = entry["data_offsets"]
            values = torch.frombuffer(bytearray(data[start + first : start + last]), dtype=torch.float32)
            found[name] = values.reshape(entry["shape"])
    return found


class Encoder:
    """Hidden states of token ids [rows, tokens], every token of which counts."""

    def __init__(self, weights, config):
        self.weights, self.config = weights, config
        self.heads = config["num_attention_heads"]

    def dense(self, x, name):
        return F.linear(x, self.tensor(name + ".weight"), self.tensor(name + ".bias"))

    def norm(self, x, name):
        scale, shift = self.tensor(name + ".weight"), self.tensor(name + ".bias")
        return F.layer_norm(x, x.shape[-1:], scale, shift, self.config["layer_norm_eps"])

    def tensor(self, name):
        return self.weights["bert." + name]

    def by_head(self, x):
        rows, tokens, hidden = x.shape
        return x.view(rows, tokens, self.heads, hidden // self.heads).transpose(1, 2)

    def attention(self, x, name):
        query, key, value = (self.by_head(self.dense(x, name + part)) for part in ("query", "key", "value"))
        scores = query @ key.transpose(-1, -2) / query.shape[-1] ** 0.5
        return (scores.softmax(-1) @ value).transpose(1, 2).reshape(x.shape)

    def __call__(self, ids):
        places = self.tensor("embeddings.position_embeddings.weight")[: ids.shape[1]]
        x = self.tensor("embeddings.word_embeddings.weight")[ids] + places
        x = x + self.tensor("embeddings.token_type_embeddings.weight")[0]
        x = self.norm(x, "embeddings.LayerNorm")
        for index in range(self.config["num_hidden_layers"]):
            layer = f"encoder.layer.{index}."
            attended = self.dense(self.attention(x, layer + "attention.self."), layer + "attention.output.dense")
            x = self.norm(attended + x, layer + "attention.output.LayerNorm")
            wide = F.gelu(self.dense(x, layer + "intermediate.dense"))
            x = self.norm(self.dense(wide, layer + "output.dense") + x, layer + "output.LayerNorm")
        return x


def main(folder, rows, seconds):
    torch.set_num_threads(1)
    config = json.loads((folder / "config.json").read_text())
    encoder = Encoder(tensors(folder / "model.safetensors"), config)
    ids = torch.full((rows, TOKENS), 2773)
    with torch.inference_mode():
        encoder(ids)
        start, sentences = time.process_time(), 0
        while time.process_time() - start < seconds:
            encoder(ids)
            sentences += rows
    print(sentences / (time.process_time() - start))


main(Path(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3]))
