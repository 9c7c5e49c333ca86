//! Suites through the public interfaces: the command line against real hosts, the client against real tools.
#![expect(missing_docs, reason = "test functions are named by what they show")]

mod background;
mod client;
mod command_line;
mod hosts;
mod interruption;
mod results;
mod support;
