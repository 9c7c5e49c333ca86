//! What a plugin logs goes to the host: this library has its own copies of `tracing` and `log`, which nobody else reads.
//!
//! Of the libraries that a plugin is made of, the most verbose level stays here: they print what they send and receive
//! there, and russh 0.62 does so with the packet that has a password in it.
use std::{
    fmt::{self, Write as _},
    sync::Arc,
};

use autoprof_abi::{HostFromFfi, LogRecord, Logger as _};
use tracing::{
    Event, Level, Metadata, Subscriber,
    field::{Field, Visit},
    span,
};

/// Sends the events and records of plugin `name` and its libraries to the host.
pub(crate) fn to_host(host: Arc<HostFromFfi>, name: &str) {
    let level = match host.max_level() {
        0 => log::LevelFilter::Off,
        1 => log::LevelFilter::Error,
        2 => log::LevelFilter::Warn,
        3 => log::LevelFilter::Info,
        4 => log::LevelFilter::Debug,
        _ => log::LevelFilter::Trace,
    };
    let wanted = Wanted { host, own: name.replace('-', "_") };
    // Both fail only when they were set before, by the plugin itself: then it knows better.
    if log::set_boxed_logger(Box::new(FromLog(wanted.clone()))).is_ok() {
        log::set_max_level(level);
    }
    let _ = tracing::subscriber::set_global_default(FromTracing(wanted));
}

/// What is passed on.
#[derive(Clone)]
struct Wanted {
    host: Arc<HostFromFfi>,
    /// The plugin's crate, as its targets begin.
    own: String,
}

impl Wanted {
    fn takes(&self, level: u8, target: &str) -> bool {
        let is_own = || target.strip_prefix(&self.own).is_some_and(|rest| rest.is_empty() || rest.starts_with("::"));
        level <= self.host.max_level() && (level < number(Level::TRACE) || is_own())
    }
}

struct FromLog(Wanted);

impl log::Log for FromLog {
    fn enabled(&self, metadata: &log::Metadata<'_>) -> bool {
        self.0.takes(metadata.level() as u8, metadata.target())
    }

    fn log(&self, record: &log::Record<'_>) {
        if self.enabled(record.metadata()) {
            let message = record.args().to_string();
            self.0.host.log(LogRecord {
                level: record.level() as u8,
                target: record.target(),
                message: &message,
                file: record.file().unwrap_or_default(),
                line: record.line().unwrap_or_default(),
            });
        }
    }

    fn flush(&self) {}
}

struct FromTracing(Wanted);

/// Events only; spans are the host's, which is in one of its own when it polls a plugin's future.
impl Subscriber for FromTracing {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.is_event() && self.0.takes(number(*metadata.level()), metadata.target())
    }

    fn event(&self, event: &Event<'_>) {
        let mut text = Text::default();
        event.record(&mut text);
        let message = format!("{}{}", text.message, text.fields);
        let metadata = event.metadata();
        self.0.host.log(LogRecord {
            level: number(*metadata.level()),
            target: metadata.target(),
            message: &message,
            file: metadata.file().unwrap_or_default(),
            line: metadata.line().unwrap_or_default(),
        });
    }

    fn new_span(&self, _: &span::Attributes<'_>) -> span::Id {
        span::Id::from_u64(1)
    }

    fn record(&self, _: &span::Id, _: &span::Record<'_>) {}
    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}
    fn enter(&self, _: &span::Id) {}
    fn exit(&self, _: &span::Id) {}
}

fn number(level: Level) -> u8 {
    match level {
        Level::ERROR => 1,
        Level::WARN => 2,
        Level::INFO => 3,
        Level::DEBUG => 4,
        Level::TRACE => 5,
    }
}

/// An event's message, then ` field=value` for each field.
#[derive(Default)]
struct Text {
    message: String,
    fields: String,
}

impl Visit for Text {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        // Writing to a string cannot fail.
        let _ = match field.name() {
            "message" => write!(self.message, "{value:?}"),
            name => write!(self.fields, " {name}={value:?}"),
        };
    }
}
