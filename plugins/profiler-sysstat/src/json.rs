//! Reads the samples of sysstat's JSON one at a time, also of a file that was cut, and makes such a file whole again.
//!
//! All tools write `{"sysstat": {"hosts": [{…, "statistics": [SAMPLE, SAMPLE, …]…`. Only one sample is in memory. A file
//! that ends in the middle of a sample (the host or the tool was killed) gives all samples before it.
use std::{
    fs::File,
    io::{self, BufRead, BufWriter, Write},
};

use autoprof_plugin::{
    convert::{TableWriter, nanoseconds, open},
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
    /// Samples that are not JSON, or too long.
    pub bad: u64,
}

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
}

impl Nesting {
    const fn at(depth: u32) -> Self {
        Self { depth, quoted: false, escaped: false }
    }

    /// Where the byte leads to; none when it closes the outermost.
    fn step(self, byte: u8) -> Option<Self> {
        match (self, byte) {
            (Self { depth, quoted: true, escaped }, byte) => {
                Some(Self { depth, quoted: escaped || byte != b'"', escaped: !escaped && byte == b'\\' })
            }
            (_, b'"') => Some(Self { quoted: true, ..self }),
            (_, b'{' | b'[') => Some(Self::at(self.depth.saturating_add(1))),
            (_, b'}' | b']') => Some(Self::at(self.depth - 1)).filter(|outer| outer.depth > 0),
            _ => Some(self),
        }
    }
}

impl<R: BufRead> Samples<R> {
    /// The samples in `reader`.
    pub const fn new(reader: R) -> Self {
        let state = State::Before(0);
        Self { reader, state, head: Vec::new(), sample: Vec::new(), count: 0, cut: false, bad: 0 }
    }

    /// The next sample that can be understood.
    pub fn next_sample(&mut self) -> io::Result<Option<Value>> {
        loop {
            self.sample.clear();
            if !self.advance()? {
                return Ok(None);
            }
            let value = serde_json::from_slice(&self.sample).ok().filter(|_| self.sample.len() <= LONGEST_SAMPLE);
            if value.is_some() {
                self.count += 1;
                return Ok(value);
            }
            self.bad += 1;
        }
    }

    /// Reads to the end of the next sample; false when there is none.
    fn advance(&mut self) -> io::Result<bool> {
        while self.state != State::After {
            let chunk = self.reader.fill_buf()?;
            if chunk.is_empty() {
                self.cut = true;
                self.state = State::After;
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

/// Tells the tables made of a file what was left out of it, and writes a torn file's whole samples beside it, as JSON
/// that any reader takes: `iostat.json` as `iostat.repaired.json`.
pub fn settle<'a, R>(
    samples: &Samples<R>,
    raw: &RawResults,
    file: &str,
    tables: impl IntoIterator<Item = &'a mut TableWriter>,
) -> Result<(), ConvertError> {
    let (count, bad) = (samples.count, samples.bad);
    // Interrupted before its first sample, mpstat 12.6 ends without closing what it has opened: there is nothing to be
    // missed in a window that had room for none.
    let room = nanoseconds(raw.args.number("interval").unwrap_or(1.0));
    let nothing_yet = count == 0 && raw.ended_unix_ns.saturating_sub(raw.began_unix_ns) < room;
    if bad == 0 && (!samples.cut || nothing_yet) {
        return Ok(());
    }
    let name = format!("{}.repaired.json", file.trim_end_matches(".json"));
    let cannot = |e: io::Error| ConvertError::caused(ConvertErrorKind::Io, format!("cannot write {name}"), &e);
    let mut to = BufWriter::new(File::create(raw.file(&name)).map_err(cannot)?);
    let whole = Samples::new(open(raw, file)?).write_whole(&mut to).and_then(|whole| to.flush().map(|()| whole));
    let whole = whole.map_err(cannot)?;
    if !whole {
        std::fs::remove_file(raw.file(&name)).map_err(cannot)?;
    }
    for (place, table) in tables.into_iter().enumerate() {
        table.repaired(count);
        if place > 0 {
            continue;
        }
        if whole {
            table.warn(format!("{file} is torn: its {count} whole samples are in {name}"));
        } else {
            table.warn(format!("{file} is torn before its first sample"));
        }
        if bad > 0 {
            table.warn(format!("{bad} samples that are not JSON were left out"));
        }
    }
    Ok(())
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
