//! Signals clients by marker files
