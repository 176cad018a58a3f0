#!/usr/bin/env python3
"""Runs a peer on this machine's CPU, picture by picture, when told to: as examples/time_picture.rs.

    python native.py onnxruntime|LiteRT|PyTorch FOLDER FILE THREADS
    python native.py limits

Commands come on the standard input, each is answered by one line of JSON: `picture I` gives the logits of that picture,
`time I` its milliseconds. `limits` writes the speed of large products by threads and ends.
"""

import json
import os
import sys
import time
from pathlib import Path

import numpy as np


def onnxruntime(file, threads):
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    session = ort.InferenceSession(file, options, providers=["CPUExecutionProvider"])
    return lambda x: session.run(None, {"input": x})[0]


def litert(file, threads):
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_path=str(file), num_threads=threads)
    interpreter.allocate_tensors()
    (given,), (result,) = interpreter.get_input_details(), interpreter.get_output_details()

    def run(x):
        interpreter.set_tensor(given["index"], x)
        interpreter.invoke()
        return interpreter.get_tensor(result["index"])

    return run


def pytorch(file, threads):
    import torch

    import models

    torch.set_num_threads(threads)
    aim = models.build(file.parent.name)

    def run(x):
        with torch.inference_mode():
            return aim(torch.from_numpy(x)).numpy()

    return run


PEERS = {"onnxruntime": onnxruntime, "LiteRT": litert, "PyTorch": pytorch}


def answer(peer, folder, name, threads):
    about = json.loads((folder / "about.json").read_text())
    inputs = np.fromfile(folder / "inputs.f32", "<f4").reshape(about["pictures"], 1, 3, about["img_size"], about["img_size"])
    run = PEERS[peer](folder / name, threads)
    print("{}", flush=True)
    for line in sys.stdin:
        command, index = line.split()
        start = time.perf_counter()
        logits = run(inputs[int(index)])
        milliseconds = (time.perf_counter() - start) * 1e3
        print(json.dumps(milliseconds if command == "time" else np.asarray(logits).reshape(-1).tolist()), flush=True)


def best(run, operations):
    """The fastest of some runs, in 1e9 operations a second."""
    run()
    times = []
    for _ in range(9):
        start = time.perf_counter()
        run()
        times.append(time.perf_counter() - start)
    return operations / min(times) / 1e9


def int8_product(side, threads):
    """onnxruntime's product of activations (u8) with constant weights (i8), which it lays out once."""
    import onnx
    import onnxruntime as ort
    from onnx import TensorProto, helper, numpy_helper

    rng = np.random.default_rng(0)
    weights = numpy_helper.from_array(rng.integers(-127, 128, (side, side)).astype(np.int8), "b")
    graph = helper.make_graph(
        [helper.make_node("MatMulInteger", ["a", "b"], ["y"])], "product",
        [helper.make_tensor_value_info("a", TensorProto.UINT8, [side, side])],
        [helper.make_tensor_value_info("y", TensorProto.INT32, [side, side])], [weights],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)])
    model.ir_version = 10
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    session = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    a = rng.integers(0, 256, (side, side)).astype(np.uint8)
    return lambda: session.run(None, {"a": a})


def limits():
    import torch

    side = 1536
    a, b = torch.randn(side, side), torch.randn(side, side)
    found = {}
    for threads in range(1, (os.cpu_count() or 1) + 1):
        torch.set_num_threads(threads)
        found[threads] = {"f32": best(lambda: a @ b, 2 * side**3), "int8": best(int8_product(side, threads), 2 * side**3)}
    print(json.dumps(found))


if __name__ == "__main__":
    if sys.argv[1:] == ["limits"]:
        limits()
    elif len(sys.argv) == 5 and sys.argv[1] in PEERS:
        answer(sys.argv[1], Path(sys.argv[2]), sys.argv[3], int(sys.argv[4]))
    else:
        sys.exit(__doc__)
