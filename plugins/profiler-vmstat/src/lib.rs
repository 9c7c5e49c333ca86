//! Encoders and converters: vmstat
