"""Reproduce the finger experiment: triplet focal loss on a Siamese DenseNet-169 (system A).

Without --data it draws phantoms, which show that the pipeline works and nothing about patients. On MURA:

    python examples/finger_tfl.py --data MURA-v1.1 --size 224 --steps 5000 --weights imagenet --lr 1e-4
"""

from siamura.experiments import Experiment, app_for

app = app_for(__doc__, Experiment(loss="triplet_focal"), out="runs/finger_tfl")

if __name__ == "__main__":
    app()
