#!/usr/bin/env python3
"""Writes one model in the formats of all contenders, and what PyTorch makes of some pictures.

    python export.py tiny target/peers/tiny

What is there already is not written again. A format that a peer cannot be given leaves NAME.failed with the reason.
"""

import argparse
import json
import logging
import os
import shutil
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file

import models

OPSET = 20
# The protocol buffers of ONNX end at 2 GiB.
LARGE = 1.9e9


def reference(aim, folder, count):
    bytes_ = models.pictures(count, seed=2)
    inputs = models.normalised(bytes_)
    with torch.inference_mode():
        logits = torch.cat([aim(picture[None]) for picture in inputs])
    opaque = np.full((*bytes_.shape[:3], 1), 255, np.uint8)
    np.concatenate([bytes_, opaque], axis=3).tofile(folder / "pictures.rgba")
    inputs.numpy().tofile(folder / "inputs.f32")
    logits.numpy().tofile(folder / "logits.f32")


def describe(size, folder, count):
    """The operations of one picture, in millions of multiplications with an addition each."""
    c = models.config(size)
    dim, tokens = c["embed_dim"], (c["img_size"] // c["patch_size"]) ** 2
    linear = c["num_blocks"] * 12 * tokens * dim * dim + 2 * tokens * dim * dim + c["num_classes"] * dim
    rest = c["num_blocks"] * 2 * tokens * tokens * dim + 2 * tokens * dim + tokens * dim * c["num_channels"] * c["patch_size"] ** 2
    about = dict(size=size, pictures=count, side=models.SIDE, classes=c["num_classes"], linear=linear / 1e6, rest=rest / 1e6, **c)
    (folder / "about.json").write_text(json.dumps(about, indent=1) + "\n")


def ours(aim, folder):
    """The folder that aim-web loads."""
    folder.mkdir(exist_ok=True)
    save_file({name: value.contiguous() for name, value in aim.state_dict().items()}, folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps({k: v for k, v in aim.config.items()}))


def onnx_float(aim, file):
    program = torch.onnx.export(
        aim, (torch.zeros(1, 3, 224, 224),), dynamo=True, opset_version=OPSET,
        input_names=["input"], output_names=["logits"], verbose=False,
    )
    program.optimize()
    program.save(file, external_data=size_of(aim) > LARGE)


def onnx_int8(source, file, reduce_range=False):
    """Dynamic: weights signed per channel, activations per tensor. The fastest type of onnxruntime-web.

    `reduce_range` keeps weights in 7 bits: natively, onnxruntime adds two products in 16 bits where the processor has no
    VNNI, which overflows with 8 (its documentation advises this)."""
    import onnx
    from onnxruntime.quantization import QuantizationMode, QuantType
    from onnxruntime.quantization.onnx_quantizer import ONNXQuantizer

    # As quantize_dynamic does, but for its inference of shapes, which ends at 2 GiB.
    quantizer = ONNXQuantizer(
        onnx.load(source), per_channel=True, reduce_range=reduce_range, mode=QuantizationMode.IntegerOps, static=False,
        weight_qType=QuantType.QInt8, activation_qType=QuantType.QUInt8, tensors_range=None, nodes_to_quantize=[],
        nodes_to_exclude=[], op_types_to_quantize=["MatMul", "Gemm"], extra_options=dict(MatMulConstBOnly=True),
    )
    quantizer.quantize_model()
    onnx.save_model(quantizer.model.model, file)


def onnx_q4(source, file, accuracy_level=None):
    """MatMulNBits as transformers.js has it: blocks of 32, symmetric."""
    import onnx
    from onnxruntime.quantization.matmul_nbits_quantizer import MatMulNBitsQuantizer

    quantizer = MatMulNBitsQuantizer(onnx.load(source), bits=4, block_size=32, is_symmetric=True, accuracy_level=accuracy_level)
    quantizer.process()
    onnx.save_model(quantizer.model.model, file)


def tflite_float(aim, file):
    import litert_torch

    litert_torch.convert(aim, (torch.zeros(1, 3, 224, 224),)).export(str(file))


def tflite_int8(source, file):
    """Dynamic: weights signed per channel. Only the fully connected layers: the recipe for a whole model also takes
    the batch product of the head, on which the runtime gives up without an error."""
    from ai_edge_quantizer import qtyping, quantizer

    q = quantizer.Quantizer(str(source))
    q.add_dynamic_config(regex=".*", operation_name=qtyping.TFLOperationName.FULLY_CONNECTED, num_bits=8)
    q.quantize().export_model(str(file), overwrite=True)


def size_of(aim):
    return 4 * sum(value.numel() for value in aim.state_dict().values())


def write(file, make):
    """Makes a file under another name first, so that one that is there is whole."""
    failed = file.with_name(file.name + ".failed")
    if file.exists() or failed.exists():
        return
    # A folder of its own: parts beside it are found by the name that is written into it.
    part = file.parent / "part"
    part.mkdir(exist_ok=True)
    try:
        make(part / file.name)
    except Exception as error:  # Whatever it was: the others can still be measured.
        failed.write_text(f"{type(error).__name__}: {' '.join(str(error).split())[:300]}\n")
        shutil.rmtree(part)
        print(f"{file.name}: {failed.read_text().strip()}")
        return
    for each in sorted(part.iterdir(), key=lambda each: each.name == file.name):
        os.replace(each, file.parent / each.name)
    part.rmdir()
    print(f"{file.name}: {file.stat().st_size / 1e6:.0f} MB", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("size", choices=models.SIZES)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--pictures", type=int, default=8)
    args = parser.parse_args()
    # The quantisers tell of every node.
    logging.disable(logging.WARNING)
    folder = args.folder
    folder.mkdir(parents=True, exist_ok=True)
    aim = models.build(args.size)
    if not (folder / "about.json").exists():
        reference(aim, folder, args.pictures)
        ours(aim, folder / "ours")
        describe(args.size, folder, args.pictures)
    write(folder / "f32.onnx", lambda file: onnx_float(aim, file))
    write(folder / "int8.onnx", lambda file: onnx_int8(folder / "f32.onnx", file))
    write(folder / "int7.onnx", lambda file: onnx_int8(folder / "f32.onnx", file, reduce_range=True))
    write(folder / "q4.onnx", lambda file: onnx_q4(folder / "f32.onnx", file))
    write(folder / "f32.tflite", lambda file: tflite_float(aim, file))
    write(folder / "int8.tflite", lambda file: tflite_int8(folder / "f32.tflite", file))


if __name__ == "__main__":
    main()
