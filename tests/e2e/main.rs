//! Suites through the public interfaces: the command line against real hosts, the client against real tools.
#![expect(clippy::unwrap_used, reason = "helpers of tests")]

mod agreement;
mod autotest;
mod background;
mod client;
mod command_line;
mod docs;
mod examples;
mod faults;
mod first_hour;
mod gaps;
mod groups;
mod hostile;
mod hosts;
mod init;
mod interruption;
mod limits;
mod nats;
mod plugins;
mod profilers;
mod report;
mod results;
mod retention;
mod secrets;
mod settings;
mod strangers;
mod sudo;
mod support;
mod takeover;
mod together;
mod unready;
mod untrusted;
