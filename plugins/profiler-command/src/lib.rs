//! Encoders and converters: command
