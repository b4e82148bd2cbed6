"""Attention over the views of a study, beside a loop over studies."""

import json

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import load_file, save_file

from siamura.evaluation import aggregate
from siamura.heads import StudyAttention


def drawn(studies=40, seed=0, classes=2):
    """Studies of one to four views, one of which shows the label; two studies of some patients."""
    rng = np.random.default_rng(seed)
    rows = []
    for study in range(studies):
        for view in range(1 + study % 4):
            rows.append(
                (f"p{study // 2 * 2 if study % 3 else study}", f"study{study}", study % classes, view == 0)
            )
    table = pd.DataFrame(rows, columns=["patient", "study", "label", "shows"]).assign(part="XR_HAND")
    embeddings = (
        rng.normal(size=(len(table), 5))
        + 3 * np.eye(classes, 5)[table["label"]] * table["shows"].to_numpy()[:, None]
    )
    order = rng.permutation(len(table))  # the views of a study need not stand together
    return embeddings[order], table.iloc[order].reset_index(drop=True)


@pytest.fixture(scope="module")
def fitted():
    return StudyAttention(epochs=60).fit(*drawn())


def test_probability_and_weights_are_those_of_a_loop_over_studies(fitted):
    embeddings, table = drawn(23, seed=1)
    share, weight = fitted.predict_proba(embeddings, table), fitted.attention(embeddings, table)
    state = {name: value.double().numpy() for name, value in fitted.module_.state_dict().items()}
    keys = list(dict.fromkeys(zip(table["part"], table["patient"], table["study"], strict=True)))
    assert len(share) == len(keys)
    for number, key in enumerate(keys):
        rows = np.flatnonzero(
            [k == key for k in zip(table["part"], table["patient"], table["study"], strict=True)]
        )
        h = (embeddings[rows] - state["standardise.mean"]) / state["standardise.scale"]
        score = []
        for view in h:
            content = np.tanh(state["content.weight"] @ view + state["content.bias"])
            gate = 1 / (1 + np.exp(-(state["gate.weight"] @ view + state["gate.bias"])))
            score.append((state["weigh.weight"] @ (content * gate)).item())
        a = np.exp(score) / np.exp(score).sum()
        logits = state["classify.weight"] @ (a @ h) + state["classify.bias"]
        np.testing.assert_allclose(weight[rows], a, atol=1e-6)
        np.testing.assert_allclose(share[number], np.exp(logits) / np.exp(logits).sum(), atol=1e-6)


def test_studies_come_in_the_order_of_aggregate(fitted):
    embeddings, table = drawn(15, seed=2)
    studies = aggregate(table, np.full(len(table), 0.5))
    alone = [
        fitted.predict_proba(embeddings[rows], table[rows])
        for rows in ((table["study"] == study).to_numpy() for study in studies["study"])
    ]
    np.testing.assert_allclose(fitted.predict_proba(embeddings, table), np.concatenate(alone), atol=1e-12)


def test_it_learns_which_view_shows_the_label(fitted):
    embeddings, table = drawn(80, seed=3)
    share = fitted.predict_proba(embeddings, table)[:, 1]
    studies = aggregate(table, np.full(len(table), 0.5))
    assert ((share > 0.5) == (studies["label"] == 1)).mean() > 0.85
    weight, several = (
        fitted.attention(embeddings, table),
        table.groupby("study")["study"].transform("size") > 1,
    )
    telling = several & table["shows"]
    assert weight[telling].mean() > weight[several & ~table["shows"]].mean()


def test_one_view_has_all_the_weight_and_an_untrained_head_the_mean():
    embeddings, table = drawn(12)
    first = StudyAttention(epochs=1, lr=1e-12, patience=1).fit(embeddings, table)
    count = table.groupby("study")["study"].transform("size").to_numpy()
    np.testing.assert_allclose(first.attention(embeddings, table), 1 / count, atol=1e-6)
    alone = table.groupby("study").head(1)
    np.testing.assert_allclose(first.attention(embeddings[alone.index], alone), 1)


def test_classes_of_any_number_and_grades_that_differ_within_a_study():
    embeddings, table = drawn(30, classes=3)
    head = StudyAttention(epochs=30).fit(embeddings, table)
    assert head.predict_proba(embeddings, table).shape == (30, 3)
    mixed = table.assign(label=np.where(table["shows"], table["label"], 0))
    with pytest.raises(ValueError, match=r"\d+ studies have views of several labels that have no order"):
        StudyAttention().fit(embeddings, mixed)
    mixed.attrs["ordered"] = True
    graded = StudyAttention(epochs=30).fit(embeddings, mixed)  # the largest label of its views
    np.testing.assert_allclose(
        graded.predict_proba(embeddings, table), head.predict_proba(embeddings, table), atol=1e-12
    )


def test_the_same_seed_gives_the_same_head_and_global_randomness_is_left_alone():
    embeddings, table = drawn(16)
    torch.manual_seed(3)
    before = torch.rand(1)
    torch.manual_seed(3)
    first, second = (StudyAttention(epochs=5, random_state=1).fit(embeddings, table) for _ in range(2))
    assert torch.rand(1) == before
    assert np.array_equal(first.predict_proba(embeddings, table), second.predict_proba(embeddings, table))


def test_it_is_kept_without_pickle(fitted, tmp_path):
    embeddings, table = drawn(9, seed=4)
    again = StudyAttention.load(fitted.save(tmp_path / "attention"))
    assert np.array_equal(again.predict_proba(embeddings, table), fitted.predict_proba(embeddings, table))
    assert again.get_params() == fitted.get_params()
    assert sorted(path.name for path in (tmp_path / "attention").iterdir()) == [
        "head.json",
        "head.safetensors",
    ]
    state = load_file(tmp_path / "attention" / "head.safetensors")
    state["standardise.scale"][0] = 0
    save_file(state, tmp_path / "attention" / "head.safetensors")
    with pytest.raises(ValueError, match="a scale is not above 0"):
        StudyAttention.load(tmp_path / "attention")
    header = json.loads((tmp_path / "attention" / "head.json").read_text())
    (tmp_path / "attention" / "head.json").write_text(json.dumps(header | {"classes": [0]}))
    with pytest.raises(ValueError, match="no list of classes"):
        StudyAttention.load(tmp_path / "attention")


@pytest.mark.parametrize(
    ("change", "wrong"),
    [
        ({"patient": None}, r"table\['patient'\] is missing in row"),
        ({"label": 0}, "is 0 alone"),
        ({"label": 0.5}, "must be whole numbers"),
    ],
)
def test_tables_that_cannot_be_learnt_from(change, wrong):
    embeddings, table = drawn(8)
    with pytest.raises(ValueError, match=wrong):
        StudyAttention().fit(embeddings, table.assign(**change))


def test_views_that_do_not_go_with_the_table(fitted):
    embeddings, table = drawn(8)
    with pytest.raises(ValueError, match="table has 1 rows for"):
        fitted.predict_proba(embeddings, table.head(1))
    with pytest.raises(ValueError, match="3 dimensions, those of fit had 5"):
        fitted.predict_proba(embeddings[:, :3], table)
    with pytest.raises(ValueError, match="has no column 'study'"):
        fitted.predict_proba(embeddings, table.drop(columns="study"))
    missing = embeddings.copy()
    missing[2] = np.nan
    with pytest.raises(ValueError, match="NaN or infinity in 1 of"):
        fitted.predict_proba(missing, table)
    with pytest.raises(ValueError, match="hidden=0 must be"):
        StudyAttention(hidden=0).fit(embeddings, table)
