"""Seals or opens a whole model with the package `cryptotensors` by its own API.

Usage: cryptotensors_model.py seal PLAIN SEALED | open SEALED
Standard output: {"cpu_seconds", "wall_seconds", "peak_kib"} of the work, without imports.
"""

import json
import resource
import sys
import time

from cryptotensors import DeserializeCryptoConfig, SerializeCryptoConfig, safe_open
from cryptotensors.numpy import save_file
from safetensors.numpy import load_file

# Keys of the bench alone; the pair is that of RFC 8032 section 7.1, test 1.
KEK = {"kty": "oct", "alg": "aes256gcm", "kid": "bench", "k": "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="}
PUBLIC = {"kty": "okp", "alg": "ed25519", "kid": "bench", "x": "11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo="}
PAIR = PUBLIC | {"d": "nWGxne/9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A="}


def seal(plain, sealed):
    config = SerializeCryptoConfig(enc_key=KEK, sign_key=PAIR)
    save_file(load_file(plain), sealed, config=config.to_dict())


def open_all(sealed):
    config = DeserializeCryptoConfig(enc_key=KEK, sign_key=PUBLIC)
    with safe_open(sealed, framework="np", config=config.to_dict()) as file:
        return {name: file.get_tensor(name) for name in file.keys()}


start, cpu = time.perf_counter(), time.process_time()
kept = {"seal": seal, "open": open_all}[sys.argv[1]](*sys.argv[2:])
measured = {
    "cpu_seconds": time.process_time() - cpu,
    "wall_seconds": time.perf_counter() - start,
    "peak_kib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss,
}
json.dump(measured, sys.stdout)
