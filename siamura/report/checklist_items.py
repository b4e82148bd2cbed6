"""Items of the reporting checklists CLAIM 2024 and TRIPOD+AI, in siamura's words; their numbers are the published ones.

Each has a key of `siamura.report.checklist` where a run knows something of it, and what a person must add. Numbers and
subjects were compared with copies of the published lists in November 2026; the words are shortened, and theirs count.

References
----------
Tejani et al., "Checklist for Artificial Intelligence in Medical Imaging (CLAIM): 2024 Update", Radiology: Artificial
Intelligence 2024;6(4):e240300, doi:10.1148/ryai.240300.

Collins et al., "TRIPOD+AI statement: updated guidance for reporting clinical prediction models that use regression or
machine learning methods", BMJ 2024;385:e078378, doi:10.1136/bmj-2023-078378.
"""

from __future__ import annotations

from typing import NamedTuple

__all__ = ["CLAIM", "TRIPOD_AI", "Item"]


class Item(NamedTuple):
    """One item: its number, what it asks, which fact of a run answers it (empty for none), and what is left to do."""

    number: str
    asks: str
    fact: str
    todo: str


_FUNDING = "who paid, and what part they had"
_SUMMARY = "a structured summary"

CLAIM: tuple[Item, ...] = (
    Item("1", "named as a study of AI, with the kind of technique", "kind", "the title"),
    Item("2", "structured abstract", "", _SUMMARY),
    Item(
        "3", "background, intended use and clinical role", "", "why, for whom, at which place in the clinic"
    ),
    Item(
        "4",
        "aims and hypotheses, unless the study explores",
        "",
        "the question, said before the data were looked at",
    ),
    Item("5", "prospective or retrospective", "", "how the radiographs were collected"),
    Item("6", "goal of the study", "", "feasibility, a new model, a test of one"),
    Item("7", "sources of the data", "source", "where they come from, from when to when, and a link"),
    Item("8", "who was included and excluded, and how", "", "the rules by which patients were chosen"),
    Item("9", "preprocessing", "preprocessing", "what was done before siamura read the files"),
    Item("10", "selection of subsets of the data", "split", "any choice of patients or views made by hand"),
    Item("11", "de-identification", "", "how and by whom, burnt-in text included"),
    Item("12", "missing data", "unreadable", "studies without a label or without a view"),
    Item("13", "how images were acquired", "", "devices, projections, resolution"),
    Item("14", "definition of the reference standard", "classes", "what makes a study belong to a class"),
    Item("15", "why this reference standard", "", "what else was possible: CT, follow-up, a second reader"),
    Item("16", "who labelled, with what training", "", "number and experience of the readers"),
    Item("17", "how the test set was labelled", "", "instructions, software, what the readers saw"),
    Item("18", "agreement of the readers", "", "kappa between readers; how differences were settled"),
    Item("19", "how the data were divided", "split", "why these shares; whether a test set was kept apart"),
    Item("20", "at what level the parts are disjoint", "disjoint", "that patient names are true ones"),
    Item("21", "intended size of the test set", "sizes", "how it was decided upon"),
    Item("22", "the model in full", "model", ""),
    Item("23", "software with versions", "software", ""),
    Item("24", "initial weights", "weights", "what the weights were trained on, and their licence"),
    Item("25", "training: augmentation, settings, stopping", "training", ""),
    Item(
        "26",
        "how the final model was chosen",
        "selection",
        "what else was tried on the same validation studies",
    ),
    Item("27", "ensembles", "ensemble", ""),
    Item("28", "measures of performance", "metrics", "why these; which one was primary"),
    Item("29", "uncertainty and tests", "interval", ""),
    Item("30", "robustness", "", "other sizes, seeds, devices; siamura train --seed gives further runs"),
    Item(
        "31",
        "explanation methods, and whether they were checked",
        "explanation",
        "what the maps were used for",
    ),
    Item("32", "test on internal data", "internal", "a test set that no choice was made on"),
    Item("33", "test on external data", "", "siamura evaluate RUN --data OTHER, or why there is none"),
    Item("34", "registration of a trial", "", "where it applies"),
    Item(
        "35",
        "numbers included and excluded, as a chart",
        "sizes",
        "the numbers before siamura read the table",
    ),
    Item("36", "who the patients are, in each part of the data", "", "age, sex, disease; by split"),
    Item(
        "37",
        "measures of performance and their uncertainty",
        "performance",
        "subgroups that matter in the clinic",
    ),
    Item("38", "estimates of diagnostic performance, and how precise", "performance", ""),
    Item("39", "failures, with examples", "failures", "what the wrong answers have in common"),
    Item("40", "limitations", "limits", "your own: bias, one hospital, labels"),
    Item("41", "what it means in practice", "", "use, and what stands in its way"),
    Item("42", "protocol, further details", "command", "where the protocol lies"),
    Item("43", "where software, model and data are", "software", "links and licences"),
    Item("44", "funding", "", _FUNDING),
)

TRIPOD_AI: tuple[Item, ...] = (
    Item("1", "title: development or evaluation, population, outcome", "kind", "the title"),
    Item("2", "abstract by TRIPOD+AI for abstracts", "", _SUMMARY),
    Item("3a", "context: diagnosis or prognosis, why, earlier models", "", "the clinical question"),
    Item("3b", "target population, intended users and place in care", "", "who would use it, and on whom"),
    Item("3c", "known inequalities in health between groups", "", "groups that the model may serve worse"),
    Item("4", "objectives", "", "development, evaluation or both"),
    Item(
        "5a", "sources of the data, and why these", "source", "how far they stand for the target population"
    ),
    Item("5b", "dates of the data", "", "first and last study"),
    Item("6a", "setting, number and place of centres", "", "hospitals, wards"),
    Item("6b", "who was eligible", "", "rules of inclusion and exclusion"),
    Item("6c", "treatments", "", "casts and implants, where they show on the radiograph"),
    Item("7", "preparation of the data", "preprocessing", "the same for all groups of patients?"),
    Item(
        "8a", "outcome, its time, and how it was assessed", "classes", "what makes a study belong to a class"
    ),
    Item("8b", "who assessed the outcome, where it is a judgement", "", "readers and their experience"),
    Item("8c", "blinding of the assessment", "", "what the readers knew"),
    Item("9a", "choice of predictors", "predictors", ""),
    Item("9b", "definition of the predictors", "preprocessing", "how the radiographs were taken"),
    Item("9c", "who assessed the predictors, where it is a judgement", "assessor", ""),
    Item("10", "size of the study, why, and whether it is enough", "sizes", "the calculation"),
    Item("11", "missing data", "unreadable", "studies without a label or without a view"),
    Item("12a", "how the data were used: division, sizes", "split", ""),
    Item("12b", "how predictors were handled", "preprocessing", ""),
    Item("12c", "kind of model, building it, internal validation", "training", "settings that were tried"),
    Item("12d", "heterogeneity between clusters", "", "centres or devices, where there are several"),
    Item("12e", "measures of performance, plots", "metrics", "which one was primary"),
    Item("12f", "updating of the model", "", "recalibration, where it was done"),
    Item(
        "12g", "how predictions are computed in an evaluation", "command", "code or an interface for others"
    ),
    Item("13", "class imbalance", "imbalance", "whether probabilities were recalibrated afterwards"),
    Item("14", "fairness", "", "what was done for it, and figures by group"),
    Item("15", "output of the model, thresholds", "output", "why this threshold"),
    Item(
        "16", "differences between training and evaluation data", "split", "in setting, eligibility, outcome"
    ),
    Item("17", "ethical approval", "", "the committee, and consent"),
    Item("18a", "funding", "", _FUNDING),
    Item("18b", "conflicts of interest", "", "of all authors"),
    Item("18c", "protocol", "", "where it lies, or that there is none"),
    Item("18d", "registration", "", "where, or that there is none"),
    Item("18e", "sharing of data", "", "link and licence, or why not"),
    Item("18f", "sharing of code", "software", "link to your own scripts"),
    Item("19", "involvement of patients and the public", "", "or that there was none"),
    Item(
        "20a",
        "flow of participants, with and without the outcome",
        "sizes",
        "the numbers before siamura read the table",
    ),
    Item("20b", "who they are: dates, predictors, groups", "", "age, sex, disease"),
    Item("20c", "evaluation data beside the development data", "sizes", "predictors and outcome in each"),
    Item("21", "participants and outcomes in each analysis", "sizes", ""),
    Item("22", "the full model, and how others can use it", "model", "where the weights can be had"),
    Item("23a", "performance with intervals, in subgroups too", "performance", "subgroups that matter"),
    Item("23b", "heterogeneity of performance", "", "by centre or device"),
    Item("24", "results of updating", "", "where the model was updated"),
    Item("25", "interpretation, fairness included", "", "in the light of earlier studies"),
    Item("26", "limitations", "limits", "your own"),
    Item("27a", "poor or missing input in use", "unlike", "what a user is to do then"),
    Item("27b", "what users must know and do", "", "training, supervision"),
    Item("27c", "next steps", "", "an external evaluation"),
)
