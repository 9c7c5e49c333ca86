//! Turns a run directory into tables and pictures
