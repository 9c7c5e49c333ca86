//! Reaches hosts over SSH
