"""The project's own estimators, with scikit-learn's interface. They are imported only when built: it takes seconds."""
