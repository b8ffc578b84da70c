"""Seals tensors with the stock `cryptotensors` package.

Standard input: {"path", "k": base64 KEK, "x" and "d": base64 header key pair, "enc_kid",
"sign_kid", "metadata", "sealed": names, "tensors": {name: {"dtype", "shape", "hex"}}}.
"""

import json
import sys

import numpy as np
from cryptotensors import SerializeCryptoConfig
from cryptotensors.numpy import save_file

TYPES = {"F32": np.float32, "F16": np.float16, "U8": np.uint8}

job = json.load(sys.stdin)
tensors = {
    name: np.frombuffer(bytes.fromhex(tensor["hex"]), TYPES[tensor["dtype"]]).reshape(tensor["shape"])
    for name, tensor in job["tensors"].items()
}
config = SerializeCryptoConfig(
    enc_key={"kty": "oct", "alg": "aes256gcm", "kid": job["enc_kid"], "k": job["k"]},
    sign_key={
        "kty": "okp", "alg": "ed25519", "kid": job["sign_kid"], "x": job["x"], "d": job["d"],
    },
    tensors=job["sealed"],
)
save_file(tensors, job["path"], metadata=job["metadata"], config=config.to_dict())
