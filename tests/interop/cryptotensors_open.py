"""Opens a sealed file with the stock `cryptotensors` package.

Standard input: {"path", "k": base64 KEK, "x": base64 header key}.
Standard output: {tensor: {"dtype", "shape", "hex": its bytes}}.
"""

import json
import sys

from cryptotensors import DeserializeCryptoConfig, safe_open

NAMES = {"float32": "F32", "float16": "F16", "uint8": "U8"}

job = json.load(sys.stdin)
config = DeserializeCryptoConfig(
    enc_key={"kty": "oct", "alg": "aes256gcm", "k": job["k"]},
    sign_key={"kty": "okp", "alg": "ed25519", "x": job["x"]},
)
tensors = {}
with safe_open(job["path"], framework="np", config=config.to_dict()) as file:
    for name in file.keys():
        tensor = file.get_tensor(name)
        tensors[name] = {
            "dtype": NAMES[tensor.dtype.name],
            "shape": list(tensor.shape),
            "hex": tensor.tobytes().hex(),
        }
json.dump(tensors, sys.stdout)
