"""The project's own estimators, in scikit-learn's manner. Each is imported where it is built, which takes seconds."""
