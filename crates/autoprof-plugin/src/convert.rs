//! Helpers for converters.
