"""The wording of feedback: values in everyday units, and the sentences that terminal and page share."""

from __future__ import annotations

import math

from tasks.feedback.adviser import Because, Feedback
from tasks.feedback.explain import Reasons
from tasks.feedback.what_if import WhatIf
from tasks.prediction.candidates import Candidate
from tasks.specs import BUDGETS

KEYS = ("C", "C#", "D", "D#", "E", "F", "F#", "G", "G#", "A", "A#", "B")
FEATURE_NAMES = {"duration_ms": "duration", "key_code": "key", "mode_code": "mode"}
SAME = 0.05  # points of popularity that nobody sees
ODDS = (
    "\u00d72: the track's value of the feature doubles the odds of the genre against the others, compared with not "
    "knowing it; \u00f72 halves them."
)
INSTEAD = (
    "Only models of XGBoost and CatBoost on audio features can be explained. The model that predicts is not one, so "
    "the best stored one is explained in its place."
)
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


def unexplained(because: Because) -> str:
    """Returns what to do if no stored model can be explained."""
    champion = because.champion.candidate
    return (
        f"Predicted by {model_of(champion)}, which cannot be explained, and no model of XGBoost or CatBoost on "
        "audio features is stored that could be explained instead. Train one: python -m flows.benchmark "
        f"--protocol {champion.cell.protocol} --models xgboost_tuned"
    )


def models(feedback: Feedback) -> list[tuple[str, str]]:
    """Returns which model predicts each task, and which is explained in its place."""
    found = []
    for task, one in sorted(feedback.because.items()):
        named_as = {f"predicts {task}": one.champion.candidate}
        if one.explainer and not one.is_champion:
            named_as[f"explained for {task}"] = one.explainer.candidate
        found += [(what, f"{model_of(model)}, run {model.run_id}") for what, model in named_as.items()]
    return found


def difference(feedback: Feedback, because: Because) -> str:
    """Returns a sentence on why the explained popularity is not the predicted one; empty if it is.

    Args: because: of popularity, with reasons.
    """
    if because.reasons is None or not (away := last_step(feedback, because.reasons)):
        return ""
    if because.is_champion:
        return f"The last step, {away:+.1f}, keeps the prediction within 0 to 100."
    return f"The last step, {away:+.1f}, is the difference of two models. {INSTEAD}"


def last_step(feedback: Feedback, reasons: Reasons) -> float:
    """Returns the predicted popularity minus that of the explained model, in points; 0 if it is the same."""
    away = float(feedback.prediction["popularity"]) - float(reasons.outputs[0])
    return away if abs(away) >= SAME else 0.0


def changes_most(feedback: Feedback) -> str:
    """Returns a sentence on the single change of a feature that would change the predicted popularity most."""
    if not feedback.what_if:
        return ""
    own_popularity = feedback.prediction["popularity"]
    options = [(one, at) for one in feedback.what_if for at in (one.lowest, one.highest)]
    one, at = max(options, key=lambda option: abs(option[0].popularity[option[1]] - own_popularity))
    return (
        f"One change would change the popularity most: {named(one.feature)} {shown(one.feature, one.values[at])} "
        f"in place of {own(feedback, one.feature)}. The predicted popularity would be {one.popularity[at]:.1f}, not "
        f"{own_popularity:.1f}."
    )


def factor(push: float) -> str:
    """Returns what a feature does to the odds of a genre, such as \u00d72.1 or \u00f71.4.

    Args: push: its contribution to the logarithm of the odds.
    """
    times = f"{math.exp(abs(push)):.1f}"
    return f"\u00f7{times}" if push < 0 and times != "1.0" else f"\u00d7{times}"


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
