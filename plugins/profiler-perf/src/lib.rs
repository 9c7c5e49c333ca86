//! Encoders and converters: perf
