"""Sentences per CPU-second of onnxruntime on a BERT encoder whose graph is made here.

Usage: onnxruntime_minilm.py MODEL ROWS SECONDS
Onnxruntime's own optimiser fuses attention, GELU and layer norms of such a graph.
"""

import json
import sys
import time
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
from onnx import TensorProto, helper, numpy_helper
from safetensors.numpy import load_file

TOKENS = 128


class Graph:
    """Nodes and constants of a graph, named as they come."""

    def __init__(self):
        self.nodes, self.constants = [], {}

    def constant(self, name, value):
        self.constants[name] = numpy_helper.from_array(np.ascontiguousarray(value), name)
        return name

    def op(self, kind, *inputs, **attributes):
        out = f"v{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, list(inputs), [out], **attributes))
        return out


def encoder(weights, config):
    """Hidden states of `input_ids` [rows, tokens], every token of which counts."""
    g = Graph()
    hidden, heads = config["hidden_size"], config["num_attention_heads"]
    width = hidden // heads

    def tensor(name):
        return weights["bert." + name]

    def dense(x, name):
        weight = g.constant(name + ".w", tensor(name + ".weight").T)
        return g.op("Add", g.op("MatMul", x, weight), g.constant(name + ".b", tensor(name + ".bias")))

    def norm(x, name):
        scale = g.constant(name + ".w", tensor(name + ".weight"))
        shift = g.constant(name + ".b", tensor(name + ".bias"))
        return g.op("LayerNormalization", x, scale, shift, axis=-1, epsilon=config["layer_norm_eps"])

    split = g.constant("split", np.array([0, 0, heads, width], np.int64))
    join = g.constant("join", np.array([0, 0, hidden], np.int64))

    def by_head(x, order):
        return g.op("Transpose", g.op("Reshape", x, split), perm=order)

    places = tensor("embeddings.position_embeddings.weight")[:TOKENS]
    places = places + tensor("embeddings.token_type_embeddings.weight")[0]
    words = g.constant("words", tensor("embeddings.word_embeddings.weight"))
    x = g.op("Add", g.op("Gather", words, "input_ids"), g.constant("places", places[None]))
    x = norm(x, "embeddings.LayerNorm")
    for index in range(config["num_hidden_layers"]):
        layer = f"encoder.layer.{index}."
        query = by_head(dense(x, layer + "attention.self.query"), [0, 2, 1, 3])
        key = by_head(dense(x, layer + "attention.self.key"), [0, 2, 3, 1])
        value = by_head(dense(x, layer + "attention.self.value"), [0, 2, 1, 3])
        scale = g.constant(f"scale{index}", np.float32(width**0.5))
        scores = g.op("Softmax", g.op("Div", g.op("MatMul", query, key), scale), axis=-1)
        mixed = g.op("Transpose", g.op("MatMul", scores, value), perm=[0, 2, 1, 3])
        attended = dense(g.op("Reshape", mixed, join), layer + "attention.output.dense")
        x = norm(g.op("Add", attended, x), layer + "attention.output.LayerNorm")
        wide = g.op("Gelu", dense(x, layer + "intermediate.dense"))
        x = norm(g.op("Add", dense(wide, layer + "output.dense"), x), layer + "output.LayerNorm")
    inputs = [helper.make_tensor_value_info("input_ids", TensorProto.INT64, ["rows", TOKENS])]
    outputs = [helper.make_tensor_value_info(x, TensorProto.FLOAT, ["rows", TOKENS, hidden])]
    graph = helper.make_graph(g.nodes, "encoder", inputs, outputs, list(g.constants.values()))
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)


def main(folder, rows, seconds):
    config = json.loads((folder / "config.json").read_text())
    model = encoder(load_file(folder / "model.safetensors"), config)
    options = ort.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    ids = np.full((rows, TOKENS), 2773, np.int64)
    session.run(None, {"input_ids": ids})
    start, sentences = time.process_time(), 0
    while time.process_time() - start < seconds:
        session.run(None, {"input_ids": ids})
        sentences += rows
    print(sentences / (time.process_time() - start))


main(Path(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3]))
