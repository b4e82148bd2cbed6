import subprocess
import sys

import matplotlib as mpl
import numpy as np
import pytest
from sklearn.decomposition import PCA

from siamura import plots


def points(figure, split=None):
    """Coordinates drawn for a split, or all."""
    drawn = figure.axes[0].collections
    chosen = [c for c in drawn if split is None or c.get_label().endswith(split)]
    return np.concatenate([c.get_offsets() for c in chosen])


def legend(figure):
    return [text.get_text() for text in figure.axes[0].get_legend().get_texts()]


def rows(array):
    return array[np.lexsort(array.T)]


def test_the_plane_is_that_of_scikit_learns_pca_fitted_on_train(vectors):
    x, _ = vectors
    plane, placed = plots.project(x[:60], "pca", valid=x[60:])
    peer = PCA(2, svd_solver="full").fit(x[:60].astype(float))
    np.testing.assert_allclose(plane, peer.transform(x[:60].astype(float)), atol=1e-12)
    np.testing.assert_allclose(placed, peer.transform(x[60:].astype(float)), atol=1e-12)


def test_every_embedding_is_one_point_of_its_category(vectors, legible):
    x, label = vectors
    figure = legible(plots.embedding(x, label, method="pca"))
    plane, _ = plots.project(x, "pca")
    normal, abnormal = figure.axes[0].collections
    np.testing.assert_allclose(normal.get_offsets(), plane[label == 0])
    np.testing.assert_allclose(abnormal.get_offsets(), plane[label == 1])
    assert legend(figure) == [f"normal ({(label == 0).sum()})", f"abnormal ({(label == 1).sum()})"]


def test_categories_differ_in_colour_and_in_shape(vectors):
    x, _ = vectors
    figure = plots.embedding(x, np.arange(90) % 5, method="pca", color="part")
    drawn = figure.axes[0].collections
    assert len({tuple(c.get_facecolor()[0][:3]) for c in drawn}) == 5
    assert (
        len(
            {
                len(c.get_paths()[0].vertices) * 100 + round(c.get_paths()[0].vertices[0][1] * 10)
                for c in drawn
            }
        )
        > 3
    )


def test_validation_is_placed_by_the_fit_on_train_and_marked_apart(vectors, legible):
    x, label = vectors
    figure = legible(
        plots.embedding(x[:60], label[:60], valid=(x[60:], label[60:]), method="pca", note="90 vectors.")
    )
    plane, placed = plots.project(x[:60], "pca", valid=x[60:])
    np.testing.assert_allclose(rows(points(figure, "train")), rows(plane))
    np.testing.assert_allclose(rows(points(figure, "valid")), rows(placed))
    edges = {c.get_label().rsplit(" ", 1)[-1]: c.get_linewidths()[0] for c in figure.axes[0].collections}
    assert edges["train"] == 0
    assert edges["valid"] > 0
    assert "train (60)" in legend(figure)
    assert "validation (30)" in legend(figure)
    assert figure.get_supxlabel().replace("\n", " ") == (
        "90 vectors. PCA fitted on the training views; validation views placed by it."
    )


def test_no_validation_row_is_no_error(vectors):
    x, label = vectors
    figure = plots.embedding(x, label, valid=(np.empty((0, 16)), np.empty(0)), method="pca")
    assert len(points(figure)) == 90
    assert "validation (0)" in legend(figure)


def test_many_classes_have_their_names_and_different_looks(vectors, legible):
    x, _ = vectors
    names = [f"finding {i}" for i in range(9)]
    figure = legible(plots.embedding(x, np.arange(90) % 9, method="pca", names=names))
    assert legend(figure)[:9] == [f"{name} (10)" for name in names]
    looks = {(h.get_color(), h.get_marker()) for h in figure.axes[0].get_legend().legend_handles}
    assert len(looks) == 9


def test_only_two_labels_are_normal_and_abnormal(vectors):
    x, _ = vectors
    assert legend(plots.embedding(x, np.arange(90) % 3, method="pca"))[:2] == ["0 (30)", "1 (30)"]


def test_errors_parts_and_names_are_named(vectors):
    x, label = vectors
    assert legend(plots.embedding(x, label == 1, method="pca", color="error"))[0].startswith("right (")
    parts = np.array(["XR_FINGER", "XR_WRIST"])[label]
    figure = plots.embedding(x, parts, method="pca", color="part")
    assert legend(figure)[0].startswith("Finger (")
    assert figure.axes[0].get_legend().get_title().get_text() == "part"
    assert legend(plots.embedding(x, label, method="pca", names=["a", "b"]))[1].startswith("b (")
    assert legend(plots.embedding(x, label, method="pca", names={0: "none", 1: "some"}))[1].startswith(
        "some ("
    )


def test_of_many_patients_the_largest_have_a_colour_and_the_others_are_counted(vectors, legible):
    x, _ = vectors
    patient = np.array([f"patient{i:05d}" for i in np.minimum(np.arange(90) // 3, 24)])
    figure = legible(plots.embedding(x, patient, method="pca", color="patient"))
    shown = legend(figure)
    assert "patient00024 (18)" in shown
    assert len(shown) == 7
    assert shown[-1] == "19 others (57)"
    assert len(points(figure)) == 90


def test_a_quantity_gets_a_scale(vectors, legible):
    x, _ = vectors
    figure = legible(plots.embedding(x, np.linspace(0, 1, 90), method="pca", color="probability"))
    assert figure.axes[1].get_ylabel() == "probability"
    np.testing.assert_allclose(figure.axes[0].collections[0].get_array(), np.linspace(0, 1, 90))


@pytest.mark.parametrize("method", ["umap", "tsne"])
def test_a_seed_gives_the_plane_again(vectors, method):
    x, label = vectors
    once = plots.project(x[:60], method, seed=1, valid=x[60:])
    again = plots.project(x[:60], method, seed=1, valid=x[60:])
    np.testing.assert_array_equal(once[0], again[0])
    np.testing.assert_array_equal(once[1], again[1])
    assert once[0].shape == (60, 2)
    assert once[1].shape == (30, 2)
    # Two clusters stay two: a point's nearest neighbour in the plane is of its label.
    distance = np.linalg.norm(once[0][:, None] - once[0][None], axis=2) + 1e9 * np.eye(60)
    assert (label[:60][distance.argmin(1)] == label[:60]).mean() > 0.9


def test_umap_does_with_few_points_and_without_a_warning(recwarn):
    x = np.random.default_rng(0).normal(size=(5, 4))
    assert plots.project(x, "umap", valid=x[:2])[0].shape == (5, 2)
    assert plots.project(x[:3], "umap")[0].shape == (3, 2)
    assert not [w for w in recwarn if issubclass(w.category, UserWarning)]


def test_the_default_is_umap():
    x = np.random.default_rng(0).normal(size=(12, 4))
    assert plots.embedding(x, np.arange(12) % 2).axes[0].get_xlabel() == "UMAP 1"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"embeddings": np.full((9, 4), np.nan)},
            "embeddings holds NaN or infinity in 9 of 9 rows, the first is row 0",
        ),
        ({"embeddings": np.zeros((2, 4)), "labels": [0, 1]}, "embeddings holds 2 rows; at least 3"),
        ({"embeddings": np.zeros((9, 1))}, "dim at least 2"),
        ({"labels": [0, 1]}, r"labels has shape \(2,\)"),
        ({"labels": [None] * 9}, "missing values"),
        ({"method": "lda"}, "method='lda' is unknown; choose one of umap, pca, tsne"),
        ({"valid": np.zeros((4, 4))}, "valid must be a tuple"),
        ({"valid": (np.zeros((4, 3)), np.zeros(4))}, "valid has 3 dimensions and embeddings 4"),
        ({"valid": (np.zeros((4, 4)), np.zeros(3))}, "valid labels has shape"),
        # Joined they would all be text, and no point of the first would be drawn.
        (
            {"valid": (np.zeros((2, 4)), ["0", "1"])},
            "labels begin with .* give both as text or both as numbers",
        ),
        ({"embeddings": 3}, r"labels has shape|embeddings has shape"),
    ],
)
def test_what_cannot_be_drawn_is_said(change, message):
    given = {"embeddings": np.eye(9)[:, :4], "labels": np.arange(9) % 2, "method": "pca", **change}
    with pytest.raises(ValueError, match=message):
        plots.embedding(given.pop("embeddings"), given.pop("labels"), **given)


def test_a_persons_settings_do_not_show(vectors):
    x, label = vectors
    with mpl.rc_context({"font.size": 30, "axes.facecolor": "black"}):
        figure = plots.embedding(x, label, method="pca")
    assert figure.axes[0].get_facecolor() == (1, 1, 1, 1)
    assert figure.axes[0].xaxis.label.get_fontsize() == 8


def test_naming_the_figures_loads_neither_torch_nor_pyplot_nor_umap():
    code = (
        "import sys, siamura.plots as p; p.embedding, p.roc, p.heat_map;"
        "print([m for m in ('torch', 'umap', 'matplotlib.pyplot') if m in sys.modules])"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "[]"


def test_what_numba_compiles_for_umap_is_kept_on_disk():
    code = """
import numpy as np
from siamura.plots import project
project(np.random.default_rng(0).normal(size=(20, 5)), "umap", valid=np.ones((3, 5)))
import umap
for function in (umap.umap_.smooth_knn_dist, umap.utils.fast_knn_indices, umap.utils.submatrix):
    print(sum(function.stats.cache_hits.values()) + sum(function.stats.cache_misses.values()))
"""
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert all(int(kept) > 0 for kept in found.stdout.split()), found.stdout
    assert len(found.stdout.split()) == 3
