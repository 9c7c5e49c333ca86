//! Encoders and converters: sysstat
