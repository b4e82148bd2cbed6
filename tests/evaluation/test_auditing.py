"""Planted errors are found: exchanged labels, copies of images, patients under two names or one."""

import json

import cv2
import numpy as np
import pandas as pd
import pytest

from siamura.evaluation import audit, audit_labels, audit_patients, compare_pictures, near_duplicates
from siamura.report import write_audit


def studies(n, patients=None, **columns):
    who = np.arange(n) if patients is None else patients
    return pd.DataFrame(
        {
            "path": [f"{i}.png" for i in range(n)],
            "patient": [f"p{i}" for i in who],
            "study": "study1",
            "part": "XR_HAND",
            "label": 0,
            **columns,
        }
    )


def image(seed, shape=(220, 150)):
    """One outline, as of hands, and detail of its own."""
    y, x = np.mgrid[-1 : 1 : shape[0] * 1j, -1 : 1 : shape[1] * 1j]
    rng = np.random.default_rng(seed)
    detail = sum(
        a * cv2.GaussianBlur(rng.normal(size=shape), (0, 0), s) * s for s, a in ((1, 40), (3, 60), (9, 60))
    )
    bone = 90 + 100 * np.exp(-3 * x**2 - (y / 1.5) ** 4) + 20 * np.cos(9 * x)
    return np.clip(bone + detail, 0, 255).astype(np.uint8)


def copy_of(grey, seed, quality=45):
    rng = np.random.default_rng(seed)
    top, left = rng.integers(1, 9, 2)
    cropped = grey[top : -rng.integers(1, 8), left : -rng.integers(1, 6)]
    return cv2.imdecode(
        cv2.imencode(".jpg", cropped, [cv2.IMWRITE_JPEG_QUALITY, quality])[1], cv2.IMREAD_GRAYSCALE
    )


class TestLabels:
    def test_the_vote_is_that_of_a_loop(self):
        rng = np.random.default_rng(0)
        vectors, label, patient = rng.normal(size=(60, 5)), rng.integers(0, 3, 60), rng.integers(0, 25, 60)
        found, facts = audit_labels(vectors, label, patient, k=7)
        unit = vectors - vectors.mean(axis=0)
        unit /= np.linalg.norm(unit, axis=1, keepdims=True)
        expected = np.empty(60)
        for i in range(60):
            others = np.flatnonzero(patient != patient[i])
            near = others[np.argsort(((unit[others] - unit[i]) ** 2).sum(axis=1))[:7]]
            prior = (label[others] == label[i]).mean()
            expected[i] = ((label[near] == label[i]).sum() + prior) / 8
        np.testing.assert_allclose(found.set_index("row")["probability"][range(60)], expected)
        assert found["probability"].is_monotonic_increasing
        assert (facts["k"], facts["images"], facts["patients"]) == (7, 60, len(set(patient)))
        for row, near in zip(found["row"], found["neighbours"], strict=True):
            assert len(near) == 4
            assert not (patient[near] == patient[row]).any()

    @pytest.mark.parametrize("share", [0.5, 0.1])
    def test_exchanged_labels_come_first(self, share):
        rng = np.random.default_rng(1)
        true = (rng.random(500) < share).astype(int)
        vectors = np.eye(2)[true] @ rng.normal(size=(2, 8)) + 0.2 * rng.normal(size=(500, 8))
        flipped = rng.choice(500, 25, replace=False)
        label = true.copy()
        label[flipped] ^= 1
        found, facts = audit_labels(vectors, label, np.arange(500) // 2)
        assert np.isin(found["row"][:25], flipped).sum() >= 23
        assert (found["suggested"][:20] == true[found["row"][:20]]).all()
        assert facts["log_loss"] < 0.7 * facts["prior_log_loss"]
        for _, rows in found.groupby("label"):
            assert rows["rank_in_class"].tolist() == list(range(1, len(rows) + 1))

    def test_a_patients_own_films_do_not_vouch_for_each_other(self):
        rng = np.random.default_rng(2)
        vectors = np.repeat(np.eye(2), 40, axis=0) + 0.05 * rng.normal(size=(80, 2))
        label, patient = np.repeat([0, 1], 40), np.arange(80)
        patient[:10], label[:10] = 0, 1  # ten images of one patient, all wrong
        found, _ = audit_labels(vectors, label, patient, k=9)
        assert set(found["row"][:10]) == set(range(10))

    def test_embeddings_that_know_nothing_are_told_so(self):
        rng = np.random.default_rng(3)
        label = rng.integers(0, 2, 400)
        facts = audit_labels(rng.normal(size=(400, 6)), label, np.arange(400))[1]
        assert facts["log_loss"] > 0.98 * facts["prior_log_loss"]

    def test_films_without_a_label_neither_vote_nor_stand_there(self):
        vectors, label = np.eye(2)[np.arange(30) % 2], np.arange(30) % 2
        label[4:10] = -1
        found, _ = audit_labels(vectors, label, np.arange(30), k=3)
        assert set(found["row"]) == set(range(30)) - set(range(4, 10))
        assert not set(np.concatenate(found["neighbours"].tolist())) & set(range(4, 10))
        with pytest.raises(ValueError, match="one class, or one patient"):
            audit_labels(vectors, np.zeros(30, int), np.arange(30))


class TestDuplicates:
    def test_copies_are_found_and_nothing_else(self):
        originals = [image(i) for i in range(40)]
        images = [*originals, *(copy_of(originals[i], i) for i in range(8))]
        rng = np.random.default_rng(0)
        vectors = rng.normal(size=(40, 12)) + 3
        vectors = np.vstack([vectors, vectors[:8] + 0.05 * rng.normal(size=(8, 12))])
        table = studies(48, split=["train"] * 44 + ["valid"] * 4)
        table.loc[[40, 41], "patient"] = [
            "p0",
            "p1",
        ]  # copies of the patient's own, in the same split: no finding
        table.loc[44, "patient"] = "p4"  # her own, but in another split
        pairs, facts = near_duplicates(vectors, table, images.__getitem__, null=30)
        listed = pairs[pairs["duplicate"]]
        assert {(a, b) for a, b in zip(listed["row"], listed["other"], strict=True)} == {
            (i, 40 + i) for i in range(2, 8)
        }
        assert listed.set_index("other")["splits"][[42, 44, 47]].tolist() == [False, True, True]
        assert listed.set_index("other")["same_patient"][[44, 45]].tolist() == [True, False]
        assert facts["null_median"] < facts["threshold"] < listed["detail"].min()
        assert facts["unreadable"] == 0

    def test_what_cannot_be_read_is_counted(self):
        images = [image(0)] * 25
        _, facts = near_duplicates(
            np.random.default_rng(0).normal(size=(25, 4)),
            studies(25),
            lambda i: None if i in (3, 4) else images[i],
        )
        assert facts["unreadable"] == 2

    @pytest.mark.parametrize("quality", [40, 70])
    def test_crop_and_compression_leave_the_detail(self, quality):
        one = image(7, (300, 200))
        assert compare_pictures(one, copy_of(one, 1, quality))[1] > 0.6
        picture, detail = compare_pictures(one, image(8, (300, 200)))
        assert detail < 0.2 < picture  # one outline
        assert compare_pictures(one, np.zeros((50, 50), np.uint8)) == (0.0, 0.0)


class TestPatients:
    def test_one_under_two_names_and_two_under_one(self):
        rng = np.random.default_rng(0)
        patient = np.repeat(np.arange(60), 3)
        vectors = rng.normal(size=(60, 16))[patient] + 0.15 * rng.normal(size=(180, 16))
        table = studies(180, patient, study=np.resize(["study1", "study1", "study2"], 180))
        table.loc[table["patient"] == "p1", "patient"] = ["p1", "p1", "p1 again"]
        table.loc[table["patient"] == "p9", ["patient", "study"]] = ["p8", "study3"]
        found, facts = audit_patients(vectors, table)
        listed = found[found["unusual"]]
        two = listed[listed["kind"] == "two like one"].iloc[0]
        assert {two["patient"], two["other"]} == {"p1", "p1 again"}
        assert set(table["patient"][two["rows"]]) == {"p1", "p1 again"}
        # The half of p1 has the other half for its nearest patient: it looks parted too.
        assert "p8" in set(listed["patient"][listed["kind"] == "one like two"].iloc[:2])
        assert facts["one like two"]["compared"] == 59


@pytest.fixture(scope="module")
def found():
    rng = np.random.default_rng(0)
    label = np.append(np.arange(22) % 2, 1)
    images = [image(i) for i in range(22)]
    images.append(copy_of(images[3], 0))
    table = studies(23, label=label)
    table.loc[5, "label"] = 0
    table.loc[0, "path"] = "<script>alert(1)</script>=1+1.png"
    vectors = np.eye(2)[label] @ rng.normal(size=(2, 6)) + 0.2 * rng.normal(size=(23, 6))
    vectors[22] = vectors[3]
    return audit(vectors, table, images.__getitem__, k=5), table, images


def test_the_page_shows_what_was_found(found, tmp_path):
    result, table, images = found
    page = write_audit(tmp_path, result, table, images.__getitem__, classes=("clean", "cyst"), pictured=3)
    text = page.read_text(encoding="utf-8")
    assert "5.png: called clean" in text
    assert "3.png (p3) and 22.png (p22)" in text
    assert "<script>" not in text
    assert len(list((tmp_path / "pictures").glob("label*.png"))) <= 3
    labels = pd.read_csv(tmp_path / "labels.csv")
    assert len(labels) == 23
    assert labels.loc[0, ["path", "label", "suggested"]].tolist() == ["5.png", "clean", "cyst"]
    pairs = pd.read_csv(tmp_path / "duplicates.csv")
    assert pairs[pairs["duplicate"]][["path", "other_path"]].to_numpy().tolist() == [["3.png", "22.png"]]
    assert set(pd.read_csv(tmp_path / "patients.csv")["kind"]) == {"two like one"}
    assert json.loads((tmp_path / "audit.json").read_text())["labels"]["images"] == 23
    bare = write_audit(tmp_path / "bare", result, table)  # no images at hand: tables alone
    assert "<figure" not in bare.read_text(encoding="utf-8")


def test_the_table_must_fit(found):
    _, table, _ = found
    with pytest.raises(ValueError, match="embeddings has 3 rows and table 23"):
        audit(np.ones((3, 2)), table)
    with pytest.raises(ValueError, match="table has no column 'part'"):
        audit(np.ones((23, 2)), table.drop(columns="part"))
