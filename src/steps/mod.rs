//! The handout, a file per step.
