#!/usr/bin/env python3
"""A classifier of one's own classes on AIM's features, by scikit-learn: no GPU, a minute.

    pip install numpy pyarrow scikit-learn
    aim-bench features --data-path DATA --split train --output /tmp/train
    aim-bench features --data-path DATA --split test --output /tmp/test
    python examples/probe_features.py /tmp/train /tmp/test

Each folder holds `img_emb/img_emb_N.npy` and `metadata/metadata_N.parquet`, row by row the features of a picture and its
path and label.
"""

import sys
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import classification_report
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler


def load(folder):
    """Features [n, dim] and labels [n] of all partitions."""
    files = sorted(Path(folder).glob("img_emb/img_emb_*.npy"))
    rows = [np.load(file) for file in files]
    tables = [pq.read_table(Path(folder) / "metadata" / f"metadata_{file.stem.rsplit('_', 1)[1]}.parquet") for file in files]
    labels = np.concatenate([table["label"].to_numpy() for table in tables])
    return np.concatenate(rows).astype(np.float32), labels


def main():
    train, test = (load(folder) for folder in sys.argv[1:3])
    print(f"{len(train[0])} pictures to learn from, {len(test[0])} to test on, {train[0].shape[1]} features each")
    classifier = make_pipeline(StandardScaler(), LogisticRegression(C=0.1, max_iter=2000))
    classifier.fit(*train)
    print(classification_report(test[1], classifier.predict(test[0]), digits=3))
    print(f"accuracy {classifier.score(*test):.4f}")


if __name__ == "__main__":
    main()
