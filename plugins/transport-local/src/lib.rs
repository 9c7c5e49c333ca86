//! Reaches this machine itself
