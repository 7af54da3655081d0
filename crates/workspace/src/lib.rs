//! The persistent unit, its lifecycle, and one-shot runs.
