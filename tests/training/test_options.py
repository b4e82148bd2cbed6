"""The options of fit and fit_classifier: each described once, offered by the signature, checked by name."""

import inspect
import subprocess
import sys

import pytest
from siamura.losses import TripletLoss

from siamura.networks import Classifier
from siamura.training import fit, fit_classifier
from siamura.training.options import ClassifierOptions, FitOptions, option
from siamura.training.typed_options import described, options_of

from .conftest import make_batches, make_net


@pytest.mark.parametrize(("function", "kind"), [(fit, FitOptions), (fit_classifier, ClassifierOptions)])
def test_signature_and_help_have_every_option(function, kind):
    offered = inspect.signature(function).parameters
    described_here = {name: about for name, _, about in described(kind)}
    assert set(described_here) == {n for n, p in offered.items() if p.kind is p.KEYWORD_ONLY}
    text = inspect.getdoc(function)
    for name, about in described_here.items():
        assert offered[name].default == about.default
        assert f"\n{name} : " in text
        assert about.text.split(maxsplit=1)[0] in text
    assert "{options}" not in text
    assert text.index("\nParameters\n") < text.index("\nprogress : bool\n") < text.index("\nReturns\n")


def test_options_are_described_once():
    both = [set(kind.__annotations__) for kind in (FitOptions, ClassifierOptions)]
    texts = [option(name).text for name in both[0]]
    assert len(set(texts)) == len(texts)
    for name in both[0] & both[1]:
        assert option(name).text == option(name, ClassifierOptions).text


def test_an_option_that_is_not_there_is_named(data):
    with pytest.raises(TypeError, match=r"fit\(\) got .* 'epoch'; did you mean 'epochs'\?"):
        fit(make_net(), data, make_batches(data), TripletLoss(), epoch=1)
    with pytest.raises(TypeError, match=r"fit_classifier\(\) got .* 'margin'; its options are epochs, "):
        fit_classifier(Classifier("squeezenet1_1"), data, steps=1, margin=0.2)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"steps": 2.0}, "steps=2.0 must be a whole number of at least 1."),
        ({"lr": float("nan")}, "lr=nan must be a finite number above 0."),
        ({"lr": "fast"}, "lr='fast' must be a finite number above 0."),
        ({"layer_decay": 0}, "layer_decay=0 must be a finite number above 0 and of at most 1."),
        (
            {"schedule": "step"},
            "schedule='step' is unknown; choose one of onecycle, cosine, constant, plateau.",
        ),
        ({"clip": 0}, "clip=0 must be a finite number above 0. None does not clip."),
        ({"warmup_until": 2}, "warmup_until=2 must be a finite number from 0 to 1."),
        ({"workers": -1}, "workers=-1 must be a whole number of at least 0."),
        ({"channels_last": "no"}, "channels_last='no' must be True or False."),
        ({"freeze_batchnorm": 1}, "freeze_batchnorm=1 must be True or False."),
        (
            {"validate_every": 2},
            "validate_every=2 does nothing without valid=; give that too, or leave it out.",
        ),
        (
            {"monitor": "valid_p1"},
            "monitor='valid_p1' does nothing without valid=; give that too, or leave it out.",
        ),
        (
            {"checkpoint_every": 5},
            "checkpoint_every=5 does nothing without out=; give that too, or leave it out.",
        ),
        ({"optimizer": None}, "optimizer=None is unknown; choose one of adamw, adam, sgd."),
    ],
)
def test_values_out_of_range_are_refused(given, message):
    with pytest.raises(ValueError) as error:
        options_of(FitOptions, given, "fit")
    assert str(error.value) == message


def test_none_and_bounds_that_are_included_are_taken():
    given = {
        "steps": None,
        "trunk_lr": None,
        "lr_warmup": 1,
        "blend": 0,
        "layer_decay": 1,
        "checkpoint_every": None,
    }
    chosen = options_of(FitOptions, given, "fit")
    assert {name: chosen[name] for name in given} == given
    assert chosen["ema"] is None


def test_descriptions_are_read_without_torch():
    code = "import sys, siamura.training.options; assert not {'torch', 'lightning'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize(
    ("train", "options"),
    [
        (fit, {"keep_best": True}),
        (fit, {"patience": 2}),
        (fit, {"validate_every": 3}),
        (fit, {"monitor": "valid_p1"}),
        (fit, {"schedule": "plateau"}),
        (fit_classifier, {"keep_best": True}),
        (fit_classifier, {"patience": 2}),
        (fit_classifier, {"validate_every": 3}),
        (fit_classifier, {"schedule": "plateau"}),
    ],
)
def test_what_goes_by_validation_needs_it(data, train, options):
    metric = train is fit
    given = (
        (make_net(), data, make_batches(data), TripletLoss())
        if metric
        else (Classifier("squeezenet1_1"), data)
    )
    with pytest.raises(ValueError, match=r"=.* does nothing without valid=; give that too"):
        train(*given, epochs=1, **options)
