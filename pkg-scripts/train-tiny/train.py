"""Trains aim-tiny from folders of photographs; every stage resumes from its file in --work.

    python train.py --hand-digits DIR --clothing DIR --negatives DIR [DIR ...] \
        --work DIR --output models/aim-tiny
"""

import argparse
import json
import time
from datetime import timedelta
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from calibrate import calibrate
from data import (
    DIGITS, GARMENTS, LABELS, Photographs, labelled, resize_and_crop, split_every,
    split_signers, SIZE,
)
from evaluate import accuracy
from export import export, settle_batch_norm
from finetune import finetune, train_probe
from model import TINY, Aim
from negatives import build
from pretrain import pretrain
from samples import (
    NEITHER_INDEX, TAUGHT, Bank, Batches, balanced_weights, cut_out_hands, garment_adjustment,
)
from teacher import Teacher, answer, draw_views, tune
from weights import fill, read_state


def arguments():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--hand-digits", type=Path, required=True, help="folder with train/CLASS")
    parser.add_argument("--clothing", type=Path, required=True, help="folder with train/CLASS")
    parser.add_argument("--negatives", nargs="+", required=True, help="folders of other pictures")
    parser.add_argument("--work", type=Path, required=True, help="caches and checkpoints")
    parser.add_argument("--output", type=Path, required=True, help="where the model goes")
    parser.add_argument("--start", type=Path, help="fine-tune this model further: no pre-training")
    parser.add_argument("--hold-out", nargs="*", default=[], choices=LABELS[:-1], metavar="LABEL",
                        help="use no picture of these classes at all, to measure teaching them later")
    parser.add_argument("--pretrain-steps", type=int, default=240)
    parser.add_argument("--garment-views", type=int, default=10)
    parser.add_argument("--hand-views", type=int, default=3)
    parser.add_argument("--negative-views", type=int, default=2)
    parser.add_argument("--teacher-epochs", type=int, default=4)
    parser.add_argument("--finetune-steps", type=int, default=10000)
    parser.add_argument("--finetune-minutes", type=float, help="end the schedule by then as well")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--workers", type=int, default=1,
                        help="processes to fine-tune with; better than threads on a busy machine")
    parser.add_argument("--bf16", action="store_true",
                        help="train in bfloat16: twice as fast where the CPU has AVX-512 BF16")
    parser.add_argument("--export-at-checks", action="store_true",
                        help="also export the running average at every validation")
    return parser.parse_args()


def seed(number):
    torch.manual_seed(number)
    np.random.seed(number)


def negative_squares(folders, work):
    """(training, held-back) u8 squares, made once."""
    paths = [work / "negatives-train.squares.npy", work / "negatives-val.squares.npy"]
    if not all(path.exists() for path in paths):
        for path, squares in zip(paths, build(folders)):
            np.save(path, squares)
    return [np.load(path, mmap_mode="r") for path in paths]


def logger(work):
    log_file = open(work / "train.log", "a", buffering=1)

    def log(line):
        line = f"{time.strftime('%H:%M:%S')} {line}"
        print(line, flush=True)
        log_file.write(line + "\n")

    return log


def make_batches(work, clothing_labels, hand_labels):
    """From the files of the earlier stages."""
    others = np.load(work / "negatives-train.squares.npy", mmap_mode="r")
    other_labels = np.full(len(others), NEITHER_INDEX)
    stored = lambda name: np.load(work / f"{name}.npy", mmap_mode="r")
    banks = [
        Bank(work / name, labels, stored(f"{name}.features"), stored(f"{name}.logits"))
        for name, labels in (("clothing", clothing_labels), ("negatives", other_labels))
    ]
    banks.append(Bank(work / "hands", hand_labels, stored("hands.features")))
    cutouts = np.load(work / "hands-train.cutouts.npy", mmap_mode="r")
    return Batches(*banks, others, cutouts, hand_labels)


def finetune_worker(rank, args, work, config, validation, clothing_labels, hand_labels):
    torch.set_num_threads(max(1, args.threads // args.workers))
    if args.workers > 1:
        torch.distributed.init_process_group(
            "gloo", f"file://{(work / 'rendezvous').resolve()}", rank=rank, world_size=args.workers,
            # A busy machine may stop a worker for long.
            timeout=timedelta(days=7),
        )
    seed(args.seed + 3)
    model = Aim(config, drop_path=0.03)
    model.load_state_dict(torch.load(work / "start.pt", weights_only=True))
    seed(args.seed + 3 + 1000 * rank)
    batches = make_batches(work, clothing_labels, hand_labels)
    log = logger(work)

    def on_check(average, scores):
        export(average, work / "running-export")
        if args.export_at_checks:
            export(average, args.output)

    average = finetune(
        model, batches, work / "finetune.pt", log, args.finetune_steps, args.finetune_minutes,
        validation=validation, on_check=on_check, rank=rank, workers=args.workers,
        imagenet=Teacher().imagenet, bf16=args.bf16,
    )
    if rank == 0:
        calibrate(average, batches, validation, log)
        export(average, args.output)
        log(f"wrote {args.output}")
    if args.workers > 1:
        torch.distributed.barrier()
        torch.distributed.destroy_process_group()


def pictures(args):
    """The labelled pictures of both folders: garments, held-back ones, hands, held-back ones."""
    garments = split_every(labelled(args.clothing / "train", GARMENTS))
    digits = split_signers(labelled(args.hand_digits / "train", DIGITS))
    told = lambda items: [(path, label) for path, label in items if LABELS[label] not in args.hold_out]
    return [told(items) for items in (*garments, *digits)]


def view_and_describe(name, number, squares, views, zoom, args):
    """Draws the views of one set and stores what the untuned teacher says of them."""
    torch.set_num_threads(max(1, args.threads // args.workers))
    seed(args.seed + 100 * number + 1)
    log, prefix, untuned = logger(args.work), args.work / name, Teacher()
    draw_views(untuned, np.load(squares, mmap_mode="r"), views, prefix, log, zoom=zoom, bf16=args.bf16)
    early = prefix.with_suffix(".early.npy")
    answer(untuned, torch.nn.Identity(), early, prefix.with_suffix(".features.npy"), log,
           bf16=args.bf16)


def teach(args, work, log, clothing, hands, others, clothing_held):
    """The views, and what both teachers say of them."""
    clothing.squares, hands.squares
    sets = [
        ("clothing", 0, work / "clothing-train.squares.npy", args.garment_views, (0.5, 1.05), args),
        ("negatives", 2, work / "negatives-train.squares.npy", args.negative_views, (0.5, 1.05), args),
        ("hands", 1, work / "hands-train.squares.npy", args.hand_views, (0.78, 1.1), args),
    ]
    with torch.multiprocessing.get_context("spawn").Pool(args.workers) as pool:
        pool.starmap(view_and_describe, sets, chunksize=1)

    seed(args.seed + 1)
    early_path = lambda name: work / f"{name}.early.npy"
    # The teacher's classes: the garments in their order, then neither.
    teacher_label = lambda labels: np.array([TAUGHT.index(label) for label in labels])
    labels = [clothing.labels, np.full(len(others), NEITHER_INDEX)]
    sets = [
        (np.load(early_path(name), mmap_mode="r"), teacher_label(own))
        for name, own in zip(("clothing", "negatives"), labels)
    ]
    together = torch.as_tensor(np.concatenate(labels))
    tuned = Teacher()
    tune(
        tuned, sets, balanced_weights(together), garment_adjustment(together)[TAUGHT],
        args.teacher_epochs, work / "teacher.pt", log,
        (clothing_held.squares, teacher_label(clothing_held.labels)), bf16=args.bf16,
    )
    for name in ("clothing", "negatives"):
        answer(tuned, tuned.classifier, early_path(name), work / f"{name}.logits.npy", log,
               bf16=args.bf16)


def starting_model(args, work, log, config, arrays, batches, validation):
    """Pre-trained, with its probe; or the one to go on with."""
    path = work / "start.pt"
    if path.exists():
        return
    model = Aim(config)
    if args.start:
        fill(model, read_state(args.start))
    else:
        model = pretrain(config, arrays, work / "pretrain.pt", args.pretrain_steps, log=log, bf16=args.bf16)
        seed(args.seed + 2)
        train_probe(model, batches, log)
        settle_batch_norm(model, batches)
    model.eval()
    log("start, validation " + json.dumps({n: accuracy(model, *data) for n, data in validation.items()}))
    export(model, work / "start-export")
    torch.save(model.state_dict(), path)


def main():
    args = arguments()
    torch.set_num_threads(args.threads)
    seed(args.seed)
    work = args.work
    work.mkdir(parents=True, exist_ok=True)
    log = logger(work)

    garments, garments_held, digits, digits_held = pictures(args)
    clothing = Photographs(garments, work, "clothing-train")
    hands = Photographs(digits, work, "hands-train")
    clothing_held = Photographs(garments_held, work, "clothing-val")
    hands_held = Photographs(digits_held, work, "hands-val")
    others, others_held = negative_squares(args.negatives, work)
    log(f"{len(clothing)} garments, {len(hands)} hands, {len(others)} others to train on")

    other_crops = np.stack([np.asarray(resize_and_crop(Image.fromarray(s), SIZE)) for s in others_held])
    validation = {
        "garments": (clothing_held.crops, clothing_held.labels),
        "hands": (hands_held.crops, hands_held.labels),
        "neither": (other_crops, np.full(len(other_crops), NEITHER_INDEX)),
    }

    teach(args, work, log, clothing, hands, others, clothing_held)
    cut_out_hands(hands.squares, work / "hands-train.cutouts.npy")
    config = dict(TINY, num_classes=len(LABELS))
    batches = make_batches(work, clothing.labels, hands.labels)
    arrays = [clothing.squares, hands.squares, others]
    starting_model(args, work, log, config, arrays, batches, validation)
    del batches

    finetune_args = (args, work, config, validation, clothing.labels, hands.labels)
    if args.workers == 1:
        finetune_worker(0, *finetune_args)
    else:
        (work / "rendezvous").unlink(missing_ok=True)
        torch.multiprocessing.spawn(finetune_worker, finetune_args, args.workers)


if __name__ == "__main__":
    main()
