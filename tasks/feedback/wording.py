"""The wording of feedback: values in everyday units, and the sentences that terminal and page share."""

from __future__ import annotations

from tasks.feedback.adviser import Because, Feedback
from tasks.feedback.explain import Reasons
from tasks.feedback.what_if import WhatIf
from tasks.prediction.candidates import Candidate
from tasks.specs import BUDGETS

KEYS = ("C", "C#", "D", "D#", "E", "F", "F#", "G", "G#", "A", "A#", "B")
FEATURE_NAMES = {"duration_ms": "duration", "key_code": "key", "mode_code": "mode"}
ALIKE = (
    "By Euclidean distance between the 12 standardized audio features; a recording that is listed twice counts once."
)


def named(feature: str) -> str:
    """Returns a feature's name for readers."""
    return FEATURE_NAMES.get(feature, feature)


def shown(feature: str, value: float) -> str:
    """Returns a value with its unit."""
    if feature == "duration_ms":
        seconds = round(value / 1000)
        return f"{seconds // 60}:{seconds % 60:02d} min"
    if feature == "key_code":
        return KEYS[int(value)] if value in range(12) else f"{value:g}"
    if feature == "mode_code":
        return {0.0: "minor", 1.0: "major"}.get(value, f"{value:g}")
    if feature == "tempo":
        return f"{value:.0f} bpm"
    return f"{value:.1f} dB" if feature == "loudness" else f"{value:.3f}"


def own(feedback: Feedback, feature: str) -> str:
    """Returns the track's value of a feature, marked if it was missing."""
    text = shown(feature, feedback.values[feature])
    return f"{text} (filled in)" if feature in feedback.filled else text


def predicted_genre(feedback: Feedback) -> str:
    """Returns the three most probable genres with their probabilities."""
    row = feedback.prediction
    ranks = (("predicted_genre", "probability"), ("second_genre", "second_probability"),
             ("third_genre", "third_probability"))  # fmt: skip
    return ", ".join(f"{row[genre]} {row[share]:.2f}" for genre, share in ranks if row[genre] is not None)


def predicted_popularity(feedback: Feedback) -> str:
    """Returns the predicted popularity with its interval."""
    row = feedback.prediction
    return f"{row['popularity']:.1f} (90 % interval {row['popularity_low']:.1f} to {row['popularity_high']:.1f})"


def listed(feedback: Feedback) -> str | None:
    """Returns the listed genre and popularity of a known track; None for other tracks."""
    if feedback.music_genre is None or feedback.listed_popularity is None:
        return None
    return f"listed as {feedback.music_genre}, popularity {feedback.listed_popularity:.0f}"


def model_of(one: Candidate) -> str:
    """Returns a model's name, feature set and protocol, without its run."""
    return f"{one.cell.model} on {one.cell.feature_set} ({one.cell.protocol})"


def which_model(because: Because) -> str:
    """Returns a sentence on which model is explained, and why this one."""
    champion = because.champion.candidate
    if because.explainer is None:
        return (
            f"Predicted by {model_of(champion)}, which cannot be explained, and no XGBoost model on audio features "
            "is stored that could be explained instead. Train one: python -m flows.benchmark "
            f"--protocol {champion.cell.protocol} --models xgboost_tuned"
        )
    explained = because.explainer.candidate
    if because.is_champion:
        return f"Explained here: the prediction itself, by {model_of(explained)}."
    return (
        f"Explained here: the prediction of {model_of(explained)}, the best stored model that is made of XGBoost's "
        f"trees. The prediction itself is by {model_of(champion)}, which is not."
    )


def focus(feedback: Feedback, reasons: Reasons) -> int:
    """Returns the position of the genre to explain first: the predicted one, or this model's own if it lacks that."""
    wanted = feedback.prediction["predicted_genre"]
    return reasons.genres.index(wanted) if wanted in reasons.genres else int(reasons.outputs.argmax())


def order(reasons: Reasons, output: int) -> list[int]:
    """Returns the features' positions, the one that pushes the output most first."""
    pushes = reasons.contributions[output]
    return sorted(range(len(pushes)), key=lambda at: -abs(pushes[at]))


def along(one: WhatIf) -> str:
    """Returns the lowest and highest predicted popularity along a feature, in words."""
    low, high = one.lowest, one.highest
    return (
        f"{one.popularity[low]:.1f} at {shown(one.feature, one.values[low])}, "
        f"{one.popularity[high]:.1f} at {shown(one.feature, one.values[high])}"
    )


def cautions(feedback: Feedback) -> list[str]:
    """Returns warnings to be read before the feedback."""
    found = []
    if feedback.prediction["is_unlike_training"]:
        found.append("This track is unlike anything the models were trained on: what follows deserves little trust.")
    if feedback.filled:
        filled = ", ".join(named(name) for name in feedback.values if name in feedback.filled)
        found.append(f"Missing and filled in with the usual value of the training tracks: {filled}.")
    if feedback.split == "train":
        found.append("The models were trained on this track, so they know more of it than of a new one.")
    budgets = {one.champion.candidate.cell.budget for one in feedback.because.values()}
    return found + [caution for name in sorted(budgets) if (caution := BUDGETS[name].caution)]
