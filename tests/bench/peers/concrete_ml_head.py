"""CPU-seconds of concrete-ml-extensions for outputs of an encrypted head on one clear row.

Usage: concrete_ml_head.py D_IN OUTPUTS TURNS
Prints JSON: the seconds of one product of an encrypted matrix [OUTPUTS, D_IN] and a clear column, the least of
TURNS, and the largest error of its answers. The library's own default parameters are used.
"""

import json
import os
import sys
import time

# Read by the library's thread pool when it starts.
os.environ["RAYON_NUM_THREADS"] = "1"

import concrete_ml_extensions as peer
import numpy as np


def main(d_in, outputs, turns):
    random = np.random.default_rng(7)
    # Unsigned as the library takes them: 8-bit weights, 7-bit activations.
    weights = random.integers(0, 256, (outputs, d_in)).astype(np.uint64)
    row = random.integers(0, 128, (d_in, 1)).astype(np.uint64)
    parameters = peer.MatmulCryptoParameters.deserialize(peer.default_params())
    private_key, compression_key = peer.create_private_key(parameters)
    encrypted = peer.encrypt_matrix(private_key, parameters, weights)
    seconds = []
    for _ in range(turns):
        start = time.process_time()
        product = peer.matrix_multiplication(encrypted, row, compression_key)
        seconds.append(time.process_time() - start)
    # Each row of the encrypted matrix has one answer, in a ciphertext of its own.
    answers = peer.decrypt_matrix(product, private_key, parameters, 1)
    error = np.abs(answers[:, 0].astype(np.int64) - (weights @ row)[:, 0].astype(np.int64)).max()
    print(json.dumps({"seconds": min(seconds), "largest_error": int(error)}))


main(int(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
