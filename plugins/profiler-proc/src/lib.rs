//! Encoders and converters: proc
