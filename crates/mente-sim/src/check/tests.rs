//! Planted violations: each law is shown to be able to fail.
