//! What a plugin says of itself in a file that nobody has run: an ELF note.
//!
//! The note is text: records end with a newline, fields are separated by U+001F, and neither can occur in a field. A
//! reader skips records and further fields that it does not know.
//!
//! ```text
//! name␟autoprof-transport-ssh
//! version␟0.1.0
//! interface␟1.0.0
//! rustc␟rustc 1.95.0 (…)
//! target␟x86_64-unknown-linux-gnu
//! panic␟unwind
//! provides␟transport:ssh
//! profiler␟NAME␟SUMMARY␟TOOLS␟EXAMPLE
//! param␟NAME␟TYPE␟DEFAULT␟UNIT␟RANGE␟HELP        (of the profiler before it)
//! table␟FILE␟KEYS␟PRECISION␟summarized or nothing␟UNLESS (of the profiler before it)
//! measure␟QUANTITY␟FORMULA␟ROWS␟UNIT              (of the table before it)
//! ```
use std::borrow::Cow;

use autoprof_core::{Measure, Param, ParamType, Precision, ProfilerInfo, TableInfo};

/// Name of the ELF note.
pub const NOTE_NAME: [u8; 8] = *b"autoprof";
/// Type of the ELF note: the format that this module describes.
pub const NOTE_TYPE: u32 = 1;
/// Version of the plugin interface: this crate's.
pub const INTERFACE: &str = env!("CARGO_PKG_VERSION");
/// The compiler that built this copy of the interface.
pub const RUSTC: &str = env!("AUTOPROF_RUSTC");
/// The target that it was built for.
pub const TARGET: &str = env!("AUTOPROF_TARGET");
/// How panics are compiled; with `abort` they cannot be contained.
pub const PANIC: &str = if cfg!(panic = "unwind") { "unwind" } else { "abort" };

const FIELD: char = '\u{1f}';
/// How a table says that only its quantities are drawn.
const SUMMARIZED: &str = "summarized";
/// Maximum number of profilers, and of transports and signalers, of one plugin; of parameters of one profiler.
const MAX_PARTS: usize = 256;
/// Longest field, in bytes.
const MAX_FIELD: usize = 8 << 10;
/// Longest name, in bytes.
const MAX_NAME: usize = 128;

/// An ELF note as it lies in the file: `Elf64_Nhdr`, name, description.
#[repr(C, align(4))]
#[derive(Debug)]
pub struct Note<const N: usize> {
    name_size: u32,
    description_size: u32,
    kind: u32,
    name: [u8; 8],
    description: [u8; N],
}

impl<const N: usize> Note<N> {
    /// The note of a plugin; `N` is [`Plugin::size`].
    #[must_use]
    pub const fn new(plugin: &Plugin<'_>) -> Self {
        let mut description = [0; N];
        plugin.write(&mut Writer { out: Some(&mut description), at: 0 });
        #[expect(clippy::cast_possible_truncation, reason = "a note is some kilobytes")]
        let description_size = N as u32;
        Self { name_size: 8, description_size, kind: NOTE_TYPE, name: NOTE_NAME, description }
    }

    /// Its text.
    #[must_use]
    pub const fn text(&self) -> &[u8] {
        &self.description
    }
}

/// A plugin as it describes itself at compile time.
#[derive(Debug, Clone, Copy)]
pub struct Plugin<'a> {
    /// Its crate's name.
    pub name: &'a str,
    /// Its crate's version.
    pub version: &'a str,
    /// Transports and signalers: `transport:ssh`.
    pub provides: &'a [&'a str],
    /// Profilers.
    pub profilers: &'a [&'a ProfilerInfo],
}

impl Plugin<'_> {
    /// How many bytes its note's text has.
    #[must_use]
    pub const fn size(&self) -> usize {
        let mut counter = Writer { out: None, at: 0 };
        self.write(&mut counter);
        counter.at
    }

    const fn write(&self, w: &mut Writer<'_>) {
        w.record(&["name", self.name]);
        w.record(&["version", self.version]);
        w.record(&["interface", INTERFACE]);
        w.record(&["rustc", RUSTC]);
        w.record(&["target", TARGET]);
        w.record(&["panic", PANIC]);
        let mut i = 0;
        while i < self.provides.len() {
            w.record(&["provides", self.provides[i]]);
            i += 1;
        }
        let mut i = 0;
        while i < self.profilers.len() {
            write_profiler(w, self.profilers[i]);
            i += 1;
        }
    }
}

const fn write_profiler(w: &mut Writer<'_>, info: &ProfilerInfo) {
    let ProfilerInfo { name, summary, params, tools, example, tables } = info;
    w.record(&["profiler", text(name), text(summary), text(tools), text(example)]);
    let Cow::Borrowed(params) = params else { panic!("a note is made of constants") };
    let mut i = 0;
    while i < params.len() {
        let Param { name, kind, default, unit, range, help } = &params[i];
        w.record(&["param", text(name), kind.word(), text(default), text(unit), text(range), text(help)]);
        i += 1;
    }
    let Cow::Borrowed(tables) = tables else { panic!("a note is made of constants") };
    let mut i = 0;
    while i < tables.len() {
        write_table(w, &tables[i]);
        i += 1;
    }
}

const fn write_table(w: &mut Writer<'_>, table: &TableInfo) {
    let TableInfo { file, keys, precision, summarized, unless, measures } = table;
    let summarized = if *summarized { SUMMARIZED } else { "" };
    w.record(&["table", text(file), text(keys), precision.word(), summarized, text(unless)]);
    let Cow::Borrowed(measures) = measures else { panic!("a note is made of constants") };
    let mut i = 0;
    while i < measures.len() {
        let Measure { quantity, formula, rows, unit } = &measures[i];
        w.record(&["measure", text(quantity), text(formula), text(rows), text(unit)]);
        i += 1;
    }
}

#[expect(clippy::ptr_arg, reason = "a constant cannot be dereferenced to a str otherwise")]
const fn text<'a>(text: &'a Cow<'static, str>) -> &'a str {
    match text {
        Cow::Borrowed(text) => text,
        Cow::Owned(_) => panic!("a note is made of constants"),
    }
}

/// Counts bytes, and keeps them where there is room.
struct Writer<'a> {
    out: Option<&'a mut [u8]>,
    at: usize,
}

impl Writer<'_> {
    const fn record(&mut self, fields: &[&str]) {
        let mut i = 0;
        while i < fields.len() {
            if i > 0 {
                self.byte(FIELD as u8);
            }
            let bytes = fields[i].as_bytes();
            let mut j = 0;
            while j < bytes.len() {
                assert!(bytes[j] >= b' ', "names and texts of a plugin are one line, without control characters");
                self.byte(bytes[j]);
                j += 1;
            }
            i += 1;
        }
        self.byte(b'\n');
    }

    const fn byte(&mut self, byte: u8) {
        if let Some(out) = &mut self.out {
            out[self.at] = byte;
        }
        self.at += 1;
    }
}

/// A note as it was read.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PluginNote {
    /// The plugin's crate.
    pub name: String,
    /// Its version.
    pub version: String,
    /// Version of the interface that it was built against.
    pub interface: String,
    /// The compiler that built it; for people.
    pub rustc: String,
    /// The target that it was built for.
    pub target: String,
    /// `unwind` or `abort`.
    pub panic: String,
    /// Kind and name of everything in it, profilers too: `transport:ssh`, `profiler:vmstat`.
    pub provides: Vec<String>,
    /// Its profilers.
    pub profilers: Vec<ProfilerInfo>,
}

impl PluginNote {
    /// Reads a note's text.
    ///
    /// # Errors
    /// What is wrong with it, in words.
    pub fn read(text: &[u8]) -> Result<Self, String> {
        let text = std::str::from_utf8(text).map_err(|_| "it is not UTF-8".to_owned())?;
        let mut note = Self::default();
        for record in text.lines() {
            // As a writer sees to it: a name or a summary that acts on a terminal is shown before anything is loaded.
            if record.contains(|c: char| (c.is_control() && c != FIELD) || is_bidi(c)) {
                return Err("it has a control character in it".to_owned());
            }
            let fields: Vec<&str> = record.split(FIELD).take(16).collect();
            if fields.iter().any(|field| field.len() > MAX_FIELD) {
                return Err(format!(
                    "its record {:?} has a field of more than {MAX_FIELD} bytes",
                    shortened(fields[0])
                ));
            }
            note.take(&fields)?;
            note.check_bounds()?;
        }
        let needed = [("name", &note.name), ("version", &note.version), ("interface", &note.interface)];
        for (what, value) in needed.into_iter().chain([("panic", &note.panic)]) {
            if value.is_empty() {
                return Err(format!("it has no {what}"));
            }
        }
        // The name becomes part of a symbol's.
        if note.name.contains(|c: char| !c.is_ascii_alphanumeric() && c != '-' && c != '_') {
            return Err(format!("{:?} is not the name of a crate", note.name));
        }
        let profilers = note.profilers.iter().map(|p| format!("profiler:{}", p.name));
        note.provides.extend(profilers);
        Ok(note)
    }

    /// Checks that there is no more of anything than can be shown.
    fn check_bounds(&self) -> Result<(), String> {
        let last = self.profilers.last();
        let counts = [
            (self.profilers.len(), "profilers"),
            (self.provides.len(), "transports and signalers"),
            (last.map_or(0, |profiler| profiler.params.len()), "parameters of one profiler"),
        ];
        if let Some((_, what)) = counts.iter().find(|(count, _)| *count > MAX_PARTS) {
            return Err(format!("it has more than {MAX_PARTS} {what}"));
        }
        let names = [&*self.name, self.provides.last().map_or("", String::as_str), last.map_or("", |p| &*p.name)];
        let param = last.and_then(|profiler| profiler.params.last()).map_or("", |param| &*param.name);
        match names.into_iter().chain([param]).find(|name| name.len() > MAX_NAME) {
            Some(name) => Err(format!("{:?} is too long for a name", shortened(name))),
            None => Ok(()),
        }
    }

    fn take(&mut self, fields: &[&str]) -> Result<(), String> {
        let owned = |text: &str| Cow::Owned(text.to_owned());
        match *fields {
            ["name", value, ..] => value.clone_into(&mut self.name),
            ["version", value, ..] => value.clone_into(&mut self.version),
            ["interface", value, ..] => value.clone_into(&mut self.interface),
            ["rustc", value, ..] => value.clone_into(&mut self.rustc),
            ["target", value, ..] => value.clone_into(&mut self.target),
            ["panic", value, ..] => value.clone_into(&mut self.panic),
            ["provides", value, ..] => self.provides.push(value.to_owned()),
            ["profiler", name, summary, tools, example, ..] => self.profilers.push(ProfilerInfo {
                name: owned(name),
                summary: owned(summary),
                params: Cow::Borrowed(&[]),
                tools: owned(tools),
                example: owned(example),
                tables: Cow::Borrowed(&[]),
            }),
            ["param", name, kind, default, unit, range, help, ..] => {
                let profiler = self.profilers.last_mut().ok_or("a parameter comes before any profiler")?;
                profiler.params.to_mut().push(Param {
                    name: owned(name),
                    // A type of a newer interface: the plugin itself will check the value.
                    kind: ParamType::from_word(kind).unwrap_or(ParamType::Any),
                    default: owned(default),
                    unit: owned(unit),
                    range: owned(range),
                    help: owned(help),
                });
            }
            ["table", file, keys, precision, summarized, unless, ..] => {
                let profiler = self.profilers.last_mut().ok_or("a table comes before any profiler")?;
                profiler.tables.to_mut().push(TableInfo {
                    file: owned(file),
                    keys: owned(keys),
                    precision: Precision::from_word(precision),
                    summarized: summarized == SUMMARIZED,
                    unless: owned(unless),
                    measures: Cow::Borrowed(&[]),
                });
            }
            ["measure", quantity, formula, rows, unit, ..] => {
                let table = self.profilers.last_mut().and_then(|profiler| profiler.tables.to_mut().last_mut());
                table.ok_or("a measure comes before any table")?.measures.to_mut().push(Measure {
                    quantity: owned(quantity),
                    formula: owned(formula),
                    rows: owned(rows),
                    unit: owned(unit),
                });
            }
            [
                "name" | "version" | "interface" | "rustc" | "target" | "panic" | "provides" | "profiler" | "param"
                | "table" | "measure",
                ..,
            ] => {
                return Err(format!("its record {:?} is cut short", fields[0]));
            }
            _ => {}
        }
        Ok(())
    }
}

/// The beginning of a text.
fn shortened(text: &str) -> String {
    text.chars().take(40).collect()
}

/// Whether a character changes the direction of the text around it.
fn is_bidi(c: char) -> bool {
    matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const PARAMS: &[Param] = &[
        Param::new("interval", ParamType::Number, "time between rows").default("1").unit("s").range("0.1..60"),
        Param::new("kinds", ParamType::Strings, "what: a|b, or Ünïcode"),
    ];
    const MEASURES: &[Measure] =
        &[Measure::new("cpu.busy", "100 - id").rows("all"), Measure::new("top.zombies", "zombies").unit("tasks")];
    const TABLES: &[TableInfo] = &[
        TableInfo::new("top.csv").keys("cpu node").precision(Precision::Integer).summarized().measures(MEASURES),
        TableInfo::new("more.csv").unless("cpus"),
    ];
    const TOP: ProfilerInfo =
        ProfilerInfo::new("top", "who is busy").params(PARAMS).tools("top:-v").example("top -b").tables(TABLES);
    const PLAIN: ProfilerInfo = ProfilerInfo::new("plain", "");
    const PLUGIN: Plugin<'_> =
        Plugin { name: "my-plugin", version: "0.3.1", provides: &["transport:x"], profilers: &[&TOP, &PLAIN] };
    static NOTE: Note<{ PLUGIN.size() }> = Note::new(&PLUGIN);

    #[test]
    fn what_is_written_at_compile_time_is_read_back() {
        let note = PluginNote::read(NOTE.text()).unwrap();
        assert_eq!((note.name.as_str(), note.version.as_str()), ("my-plugin", "0.3.1"));
        assert_eq!((note.interface.as_str(), note.panic.as_str()), (INTERFACE, "unwind"));
        assert_eq!(note.provides, ["transport:x", "profiler:top", "profiler:plain"]);
        assert_eq!(note.profilers, [TOP, PLAIN]);
    }

    #[test]
    fn what_a_newer_plugin_adds_is_skipped() {
        let text = String::from_utf8(NOTE.text().to_vec()).unwrap();
        let newer = text
            .replace("\nprofiler\u{1f}plain", "\nfuture\u{1f}x\nprofiler\u{1f}plain")
            .replace("time between rows", "time between rows\u{1f}more");
        assert_eq!(PluginNote::read(newer.as_bytes()).unwrap(), PluginNote::read(NOTE.text()).unwrap());
    }

    #[test]
    fn a_damaged_note_is_named() {
        let read = |text: &str| PluginNote::read(text.as_bytes()).unwrap_err();
        assert_eq!(read(""), "it has no name");
        assert_eq!(read("name\n"), "its record \"name\" is cut short");
        assert_eq!(read("param\u{1f}a\u{1f}b\u{1f}c\u{1f}d\u{1f}e\u{1f}f\n"), "a parameter comes before any profiler");
        assert_eq!(read("table\u{1f}a\u{1f}b\u{1f}c\u{1f}d\u{1f}e\n"), "a table comes before any profiler");
        assert_eq!(read("measure\u{1f}a\u{1f}b\u{1f}c\u{1f}d\n"), "a measure comes before any table");
        assert_eq!(PluginNote::read(b"\xff").unwrap_err(), "it is not UTF-8");
        assert_eq!(read("name\u{1f}a\u{1b}[2J\n"), "it has a control character in it");
        assert_eq!(read("name\u{1f}a\u{202e}b\n"), "it has a control character in it");
    }

    #[test]
    fn a_note_has_no_more_than_can_be_shown() {
        let read = |text: &str| PluginNote::read(text.as_bytes()).unwrap_err();
        let profilers: String = (0..100_000).map(|n| format!("profiler\u{1f}p{n}\u{1f}\u{1f}\u{1f}\n")).collect();
        assert_eq!(read(&profilers), "it has more than 256 profilers");
        let params = "param\u{1f}a\u{1f}bool\u{1f}\u{1f}\u{1f}\u{1f}\n".repeat(300);
        assert_eq!(
            read(&format!("profiler\u{1f}p\u{1f}\u{1f}\u{1f}\n{params}")),
            "it has more than 256 parameters of one profiler"
        );
        assert_eq!(read(&"provides\u{1f}transport:x\n".repeat(300)), "it has more than 256 transports and signalers");
        let long = "a".repeat(9000);
        assert!(read(&format!("future\u{1f}{long}\n")).contains("a field of more than 8192 bytes"));
        assert!(
            read(&format!("profiler\u{1f}{}\u{1f}\u{1f}\u{1f}\n", &long[..200])).contains("is too long for a name")
        );
    }

    fn word() -> impl Strategy<Value = String> {
        "[ -~äß€𝄞]{0,12}"
    }

    proptest! {
        #[test]
        fn no_bytes_panic_the_reader(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = PluginNote::read(&bytes);
        }

        #[test]
        fn no_damage_panics_the_reader(at in any::<prop::sample::Index>(), byte in any::<u8>()) {
            let mut text = NOTE.text().to_vec();
            let at = at.index(text.len());
            text[at] = byte;
            let _ = PluginNote::read(&text);
            let _ = PluginNote::read(&text[..at]);
        }

        #[test]
        fn any_profiler_is_read_back(name in word(), summary in word(), help in word(), default in word()) {
            // Leaked, since notes are made of constants.
            let leak = |text: String| -> &'static str { text.leak() };
            let param = Param::new("p", ParamType::Bool, leak(help)).default(leak(default));
            let params: &'static [Param] = vec![param].leak();
            let info = ProfilerInfo::new(leak(name), leak(summary)).params(params);
            let plugin = Plugin { profilers: &[&info], ..PLUGIN };
            let mut text = vec![0; plugin.size()];
            plugin.write(&mut Writer { out: Some(&mut text), at: 0 });
            prop_assert_eq!(PluginNote::read(&text).unwrap().profilers, vec![info]);
        }
    }
}
