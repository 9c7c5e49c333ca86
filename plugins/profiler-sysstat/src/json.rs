//! Reads the samples of sysstat's JSON one at a time, also of a file that was cut, and makes such a file whole again.
//!
//! All tools write `{"sysstat": {"hosts": [{…, "statistics": [SAMPLE, SAMPLE, …]…`. Only one sample is in memory. A file
//! that ends in the middle of a sample (the host or the tool was killed) gives all samples before it.
//!
//! What is not JSON costs as little as can be: a value its cell, a line its row, a sample itself. sysstat escapes nothing
//! in names, and writes what a division gives (`nan`, `inf`). No string of it has an end of line in it, so that a quote
//! too many is over with its line.
use std::{
    collections::HashMap,
    fs::File,
    io::{self, BufRead, BufWriter, Write},
};

use autoprof_plugin::{
    convert::{TableWriter, json, nanoseconds, open},
    prelude::*,
};
use serde_json::Value;

/// The longest sample, in bytes: `sar -A` has a cell for each interrupt and CPU, 8 MiB on a host with 1000 CPUs and 500
/// interrupts. What is read takes about sixteen times that memory in the worst case.
const LONGEST_SAMPLE: usize = 16 << 20;

/// The longest description of the host that comes before the samples, in bytes; sysstat 12.6.1 takes 300.
const LONGEST_HEAD: usize = 64 << 10;

/// Before the list of samples.
const LIST: &[u8] = b"\"statistics\"";

/// The samples of one file.
pub struct Samples<R> {
    reader: R,
    state: State,
    /// What is before the samples, with the bracket that opens their list.
    head: Vec<u8>,
    sample: Vec<u8>,
    /// Samples handed out so far.
    pub count: u64,
    /// Whether the file ended before all that was opened in it was closed.
    pub cut: bool,
    /// Whether it ended so between two samples, of which every one is whole.
    pub open: bool,
    /// Samples that cannot be read, or are too long.
    pub bad: u64,
    /// Rows that cannot be read, of samples that otherwise can.
    pub bad_rows: u64,
    /// Values that cannot be read: the name of the member and what was there.
    pub unreadable: Vec<(String, String)>,
    /// Whether the sample that is being read has told its time.
    stamped: bool,
}

/// How many unreadable values of one sample are kept apart.
const MAX_UNREADABLE: usize = 10_000;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// So many bytes of `"statistics"` have been seen.
    Before(usize),
    /// The list is about to begin.
    Opening,
    /// Between two samples.
    Between,
    /// In a sample, at this depth of braces and brackets.
    Within(Nesting),
    /// Behind the list, at this depth of what was opened before it.
    Behind(Nesting),
    /// All that was opened is closed.
    After,
}

/// How deep in braces and brackets a byte of JSON is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Nesting {
    depth: u32,
    quoted: bool,
    escaped: bool,
    /// The line so far, for where it has a quote too many.
    line: Line,
}

/// What a line looks like without regard to quotes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Line {
    /// The depth at its beginning.
    start: u32,
    /// The depth with all brackets since, also those in strings.
    plain: u32,
    /// Its first byte that is not blank, and the last one that is neither blank nor a comma.
    ends: (u8, u8),
}

impl Line {
    const fn at(depth: u32) -> Self {
        Self { start: depth, plain: depth, ends: (0, 0) }
    }

    fn step(mut self, byte: u8) -> Self {
        self.plain = match byte {
            b'{' | b'[' => self.plain.saturating_add(1),
            b'}' | b']' => self.plain.saturating_sub(1),
            _ => self.plain,
        };
        if !byte.is_ascii_whitespace() && byte != b',' {
            let first = if self.ends.0 == 0 { byte } else { self.ends.0 };
            self.ends = (first, byte);
        }
        self
    }

    /// The depth behind it. sysstat writes a row on a line of its own.
    const fn depth(self) -> u32 {
        if matches!(self.ends, (b'{', b'}')) { self.start } else { self.plain }
    }
}

impl Nesting {
    const fn at(depth: u32) -> Self {
        Self { depth, quoted: false, escaped: false, line: Line::at(depth) }
    }

    /// Where the byte leads to; none when it closes the outermost.
    fn step(self, byte: u8) -> Option<Self> {
        let next = Self { line: self.line.step(byte), ..self };
        let next = match (self, byte) {
            (Self { quoted: true, .. }, b'\n') => Self::at(self.line.depth()),
            (Self { quoted: true, escaped, .. }, byte) => {
                Self { quoted: escaped || byte != b'"', escaped: !escaped && byte == b'\\', ..next }
            }
            (_, b'\n') => Self::at(self.depth),
            (_, b'"') => Self { quoted: true, ..next },
            (_, b'{' | b'[') => Self { depth: self.depth.saturating_add(1), ..next },
            (_, b'}' | b']') => Self { depth: self.depth.saturating_sub(1), ..next },
            _ => next,
        };
        (next.depth > 0).then_some(next)
    }
}

impl<R: BufRead> Samples<R> {
    /// The samples in `reader`.
    pub fn new(reader: R) -> Self {
        let state = State::Before(0);
        let (head, sample, unreadable) = (Vec::new(), Vec::new(), Vec::new());
        Self {
            reader,
            state,
            head,
            sample,
            count: 0,
            cut: false,
            open: false,
            bad: 0,
            bad_rows: 0,
            unreadable,
            stamped: false,
        }
    }

    /// Whether there is a list of samples in the file: it is what it should be.
    pub const fn has_list(&self) -> bool {
        !self.head.is_empty() && !matches!(self.state, State::Before(_) | State::Opening)
    }

    /// The next sample that can be understood.
    pub fn next_sample(&mut self) -> io::Result<Option<Value>> {
        loop {
            self.sample.clear();
            self.stamped = false;
            if !self.advance()? {
                return Ok(None);
            }
            if let Some(value) = self.read() {
                self.count += 1;
                return Ok(Some(value));
            }
            self.bad += 1;
        }
    }

    /// The sample, without what cannot be read of it.
    fn read(&mut self) -> Option<Value> {
        if self.sample.len() > LONGEST_SAMPLE {
            return None;
        }
        if let Ok(value) = serde_json::from_slice(&self.sample) {
            return Some(value);
        }
        let end = self.sample.iter().rposition(|byte| !byte.is_ascii_whitespace() && *byte != b',')?;
        self.sample.truncate(end + 1);
        let mut rows = 0;
        let read = json::read(&self.sample).or_else(|| {
            let lines = self.sample.split_inclusive(|byte| *byte == b'\n');
            let kept: Vec<&[u8]> = lines
                .filter(|line| {
                    let row = line.trim_ascii().trim_ascii_end();
                    let row = row.strip_suffix(b",").unwrap_or(row);
                    let is_bad = row.starts_with(b"{") && row.ends_with(b"}") && json::read(row).is_none();
                    rows += u64::from(is_bad);
                    !is_bad
                })
                .collect();
            json::read(&kept.concat())
        })?;
        self.bad_rows += rows;
        let room = MAX_UNREADABLE.saturating_sub(self.unreadable.len());
        self.unreadable.extend(read.unreadable.into_iter().take(room));
        // What is read again, of the repaired file, is what was read here.
        self.sample = serde_json::to_vec(&read.value).ok()?;
        Some(read.value)
    }

    /// Reads to the end of the next sample; false when there is none.
    fn advance(&mut self) -> io::Result<bool> {
        while self.state != State::After {
            let chunk = self.reader.fill_buf()?;
            if chunk.is_empty() {
                self.cut = true;
                self.open = self.state == State::Between;
                if !matches!(self.state, State::Before(_) | State::Opening) {
                    self.state = State::After;
                }
                break;
            }
            let mut ended = false;
            let mut used = 0;
            for byte in chunk {
                used += 1;
                let before = self.state;
                self.state = step(before, *byte, &self.head);
                let within = |state| matches!(state, State::Within(_));
                if (within(before) || within(self.state)) && self.sample.len() <= LONGEST_SAMPLE {
                    self.sample.push(*byte);
                } else if matches!(before, State::Before(_) | State::Opening) && self.head.len() <= LONGEST_HEAD {
                    self.head.push(*byte);
                }
                if *byte == b'\n' && within(self.state) {
                    self.state = again(self.state, &mut self.sample, &mut self.stamped, &mut self.bad);
                }
                ended = within(before) && !within(self.state);
                if ended || self.state == State::After {
                    break;
                }
            }
            self.reader.consume(used);
            if ended {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Writes the samples that are whole as a whole file; false when too little is left for that.
    ///
    /// # Errors
    /// When one file cannot be read, or the other one not be written.
    fn write_whole(mut self, mut to: impl Write) -> io::Result<bool> {
        let mut written = 0u64;
        // The first sample tells that all of the head has been read.
        while self.next_sample()?.is_some() {
            to.write_all(if written == 0 { &self.head } else { b"," })?;
            to.write_all(b"\n")?;
            to.write_all(&self.sample)?;
            written += 1;
        }
        let Some(closing) = closing(&self.head) else { return Ok(false) };
        if written == 0 {
            to.write_all(&self.head)?;
        }
        to.write_all(b"\n]")?;
        to.write_all(&closing)?;
        to.write_all(b"\n")?;
        Ok(true)
    }
}

/// At the end of a line of a sample: where that tells a time and the sample has told one already, an end of a sample is
/// missing, and what is before its beginning is no sample.
fn again(state: State, sample: &mut Vec<u8>, stamped: &mut bool, bad: &mut u64) -> State {
    let line = sample.strip_suffix(b"\n").unwrap_or(sample);
    let begin = line.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
    let line = line[begin..].trim_ascii();
    if !line.starts_with(b"\"timestamp\"") {
        return state;
    }
    let brace = sample[..begin].iter().rposition(|byte| *byte == b'{').filter(|_| std::mem::replace(stamped, true));
    let Some(brace) = brace else { return state };
    let opened = line.iter().fold(1_u32, |depth, byte| match byte {
        b'{' | b'[' => depth.saturating_add(1),
        b'}' | b']' => depth.saturating_sub(1),
        _ => depth,
    });
    *bad += 1;
    sample.drain(..brace);
    State::Within(Nesting::at(opened.max(1)))
}

/// Tells the tables made of a file what was left out of it, and writes a torn file's whole samples beside it, as JSON
/// that any reader takes: `iostat.json` as `iostat.repaired.json`.
///
/// `columns` are the tool's names of values with ours.
pub fn settle<'a, R: BufRead>(
    samples: &Samples<R>,
    raw: &RawResults,
    file: &str,
    columns: &[(&str, &str)],
    tables: impl IntoIterator<Item = &'a mut TableWriter>,
) -> Result<(), ConvertError> {
    let mut tables: Vec<&mut TableWriter> = tables.into_iter().collect();
    for (member, text) in &samples.unreadable {
        for (_, column) in columns.iter().filter(|(theirs, _)| theirs == member) {
            tables.iter_mut().for_each(|table| table.unreadable(column, text));
        }
    }
    let Some(first) = tables.first_mut() else { return Ok(()) };
    for (count, what) in [(samples.bad, "samples"), (samples.bad_rows, "rows")] {
        if count > 0 {
            first.warn(format!("{count} {what} of {file} that cannot be read were left out"));
        }
    }
    if !samples.cut {
        return Ok(());
    }
    let count = samples.count;
    // Interrupted before its first sample, mpstat 12.6 ends without closing what it has opened: there is nothing to be
    // missed in a window that had room for none.
    let room = nanoseconds(raw.args.number("interval").unwrap_or(1.0));
    if count == 0 && samples.bad == 0 && raw.ended_unix_ns.saturating_sub(raw.began_unix_ns) < room {
        return Ok(());
    }
    if !samples.has_list() && !samples.head.is_empty() {
        first.incomplete(format!("{file} has no list of samples in it"));
    }
    let name = format!("{}.repaired.json", file.trim_end_matches(".json"));
    let cannot = |e: io::Error| ConvertError::caused(ConvertErrorKind::Io, format!("cannot write {name}"), &e);
    let mut to = BufWriter::new(File::create(raw.file(&name)).map_err(cannot)?);
    let whole = Samples::new(open(raw, file)?).write_whole(&mut to).and_then(|whole| to.flush().map(|()| whole));
    let whole = whole.map_err(cannot)?;
    if !whole {
        std::fs::remove_file(raw.file(&name)).map_err(cannot)?;
    }
    if samples.open && count > 0 && !raw.end_unknown && leaves_open(raw, file) {
        first.warn(format!("this version of sysstat does not close its JSON: {name} is the whole file"));
        return Ok(());
    }
    if whole {
        first.warn(format!("{file} is torn: its {count} whole samples are in {name}"));
    } else {
        first.warn(format!("{file} is torn before its first sample"));
    }
    tables.iter_mut().for_each(|table| table.repaired(count));
    Ok(())
}

/// Whether the tool ends on `SIGINT` without closing its JSON, each time: iostat and mpstat before 12.0.4, and of the
/// development series before 12.1.4 (sysstat's CHANGES).
fn leaves_open(raw: &RawResults, file: &str) -> bool {
    let tool = raw.facts.tools.get(file.trim_end_matches(".json"));
    tool.is_some_and(|tool| match tool.version_numbers().as_slice() {
        [] => false,
        [12, 1, patch, ..] => *patch < 4,
        _ => !tool.is_at_least(&[12, 0, 4]),
    })
}

/// What closes all that is open behind the list of samples, if the bytes before it are what they should be.
fn closing(head: &[u8]) -> Option<Vec<u8>> {
    if head.len() > LONGEST_HEAD || head.last() != Some(&b'[') {
        return None;
    }
    let mut open = open_brackets(head);
    open.pop();
    open.reverse();
    let whole: Vec<u8> = head.iter().chain(b"]").chain(&open).copied().collect();
    serde_json::from_slice::<Value>(&whole).is_ok().then_some(open)
}

/// For each brace and bracket that is open at the end, outermost first, what closes it.
fn open_brackets(json: &[u8]) -> Vec<u8> {
    let mut open = Vec::new();
    let (mut quoted, mut escaped) = (false, false);
    for byte in json {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if quoted => escaped = true,
            b'"' => quoted = !quoted,
            _ if quoted => {}
            b'{' => open.push(b'}'),
            b'[' => open.push(b']'),
            b'}' | b']' => drop(open.pop()),
            _ => {}
        }
    }
    open
}

fn step(state: State, byte: u8, head: &[u8]) -> State {
    match (state, byte) {
        (State::Before(seen), byte) if byte == LIST[seen] => {
            if seen + 1 == LIST.len() {
                State::Opening
            } else {
                State::Before(seen + 1)
            }
        }
        // The first byte, a quote, is nowhere else in the word but at its end, so nothing else can overlap.
        (State::Before(_), b'"') => State::Before(1),
        (State::Before(_), _) => State::Before(0),
        (State::Opening, b'[') => State::Between,
        (State::Opening, b':' | b' ' | b'\t' | b'\r' | b'\n') => State::Opening,
        (State::Opening, b'"') => State::Before(1),
        (State::Opening, _) => State::Before(0),
        (State::Between, b'{') => State::Within(Nesting::at(1)),
        (State::Between, b']') => match u32::try_from(open_brackets(head).len()) {
            // The list itself is one of them.
            Ok(open) if open > 1 => State::Behind(Nesting::at(open - 1)),
            _ => State::After,
        },
        (State::Between, _) => State::Between,
        (State::Within(nesting), byte) => nesting.step(byte).map_or(State::Between, State::Within),
        (State::Behind(nesting), byte) => nesting.step(byte).map_or(State::After, State::Behind),
        (State::After, _) => State::After,
    }
}

/// A member as a cell: the number or text as the tool wrote it; empty when there is none.
pub fn cell(object: &Value, key: &str) -> String {
    match object.get(key) {
        Some(Value::Number(n)) => n.as_f64().map(autoprof_plugin::convert::number).unwrap_or_default(),
        Some(Value::String(text)) => text.clone(),
        _ => String::new(),
    }
}

/// The objects in a list member; none when there is no such list.
pub fn objects<'a>(object: &'a Value, key: &str) -> impl Iterator<Item = &'a Value> {
    object.get(key).and_then(Value::as_array).into_iter().flatten().filter(|v| v.is_object())
}

/// The objects of a list member by the text of their own member `key`; of several with one text the first.
pub fn keyed<'a>(object: &'a Value, list: &str, key: &str) -> HashMap<String, &'a Value> {
    let mut found = HashMap::new();
    for object in objects(object, list) {
        found.entry(cell(object, key)).or_insert(object);
    }
    found
}

/// Whether a sample has the list at all; one without is not what its tool prints.
pub fn has_list(object: &Value, key: &str) -> bool {
    object.get(key).is_some_and(Value::is_array)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const FILE: &str = r#"{"sysstat": {"hosts": [{"nodename": "statistics", "statistics": [
        {"timestamp": "a}]\"", "disk": [{"util": 1.50}, {"util": 2}]},
        {"timestamp": "b", "disk": []}
    ]}]}}"#;

    fn read(bytes: &[u8]) -> (Vec<Value>, Samples<&[u8]>) {
        let mut samples = Samples::new(bytes);
        let mut values = Vec::new();
        while let Some(value) = samples.next_sample().unwrap() {
            values.push(value);
        }
        (values, samples)
    }

    #[test]
    fn samples_come_one_by_one() {
        let (values, samples) = read(FILE.as_bytes());
        assert_eq!(values.len(), 2);
        assert_eq!(cell(&values[0], "timestamp"), "a}]\"");
        assert_eq!(objects(&values[0], "disk").map(|d| cell(d, "util")).collect::<Vec<_>>(), ["1.5", "2"]);
        assert_eq!((samples.cut, samples.bad), (false, 0));
    }

    #[test]
    fn a_file_without_samples_is_not_an_error_of_its_own() {
        assert!(read(b"").1.cut);
        assert!(read(b"{\"sysstat\": {}}").0.is_empty());
    }

    proptest! {
        #[test]
        fn a_cut_file_gives_all_samples_that_are_whole(at in 0..FILE.len()) {
            let (values, samples) = read(&FILE.as_bytes()[..at]);
            let whole = [FILE.find("]},").unwrap() + 2, FILE.find("[]}").unwrap() + 3];
            prop_assert_eq!(values.len(), whole.iter().filter(|end| **end <= at).count());
            prop_assert!(samples.cut);
        }

        #[test]
        fn a_cut_file_is_made_whole_again(at in 0..FILE.len(), zeros in 0usize..9000) {
            let mut whole = Vec::new();
            let torn = [&FILE.as_bytes()[..at], &vec![0; zeros]].concat();
            let done = Samples::new(&torn[..]).write_whole(&mut whole).unwrap();
            prop_assert_eq!(done, at > FILE.find("[\n").unwrap());
            if done {
                let (values, samples) = read(&whole);
                prop_assert!(!samples.cut && samples.bad == 0);
                prop_assert_eq!(values, read(&torn).0);
                serde_json::from_slice::<Value>(&whole).unwrap();
            }
        }

        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            for before in ["", "\"statistics\": [{", "{\"a\": [{\"statistics\": [{}", "{\"statistics\": []"] {
                let torn = [before.as_bytes(), &bytes[..]].concat();
                read(&torn);
                let mut whole = Vec::new();
                if Samples::new(&torn[..]).write_whole(&mut whole).unwrap() {
                    serde_json::from_slice::<Value>(&whole).unwrap();
                }
            }
        }
    }
}
