//! The stable binary interface between autoprof and its plugins
