//! Reads the samples of sysstat's JSON one at a time, also of a file that was cut.
//!
//! All tools write `{"sysstat": {"hosts": [{…, "statistics": [SAMPLE, SAMPLE, …]…`. Only one sample is in memory; what
//! comes before and after the list is passed over. A file that ends in the middle of a sample (the host or the tool
//! was killed) gives all samples before it.
use std::io::{self, BufRead};

use serde_json::Value;

/// The longest sample, in bytes: `sar -A` has a cell for each interrupt and CPU, 8 MiB on a host with 1000 CPUs and 500
/// interrupts. What is read takes about sixteen times that memory in the worst case.
const LONGEST_SAMPLE: usize = 16 << 20;

/// Before the list of samples.
const LIST: &[u8] = b"\"statistics\"";

/// The samples of one file.
pub struct Samples<R> {
    reader: R,
    state: State,
    sample: Vec<u8>,
    /// Samples handed out so far.
    pub count: u64,
    /// Whether the file ended before the list did.
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
    Within { depth: u32, quoted: bool, escaped: bool },
    /// Behind the list.
    After,
}

impl<R: BufRead> Samples<R> {
    /// The samples in `reader`.
    pub const fn new(reader: R) -> Self {
        Self { reader, state: State::Before(0), sample: Vec::new(), count: 0, cut: false, bad: 0 }
    }

    /// The next sample that can be understood.
    pub fn next_sample(&mut self) -> io::Result<Option<Value>> {
        loop {
            if self.state == State::After {
                return Ok(None);
            }
            let chunk = self.reader.fill_buf()?;
            if chunk.is_empty() {
                self.cut = true;
                self.state = State::After;
                return Ok(None);
            }
            let mut ended = false;
            let mut used = 0;
            for byte in chunk {
                used += 1;
                let before = self.state;
                self.state = step(before, *byte);
                let within = |state| matches!(state, State::Within { .. });
                if (within(before) || within(self.state)) && self.sample.len() <= LONGEST_SAMPLE {
                    self.sample.push(*byte);
                }
                ended = within(before) && !within(self.state);
                if ended || self.state == State::After {
                    break;
                }
            }
            self.reader.consume(used);
            if !ended {
                continue;
            }
            let value = serde_json::from_slice(&self.sample).ok().filter(|_| self.sample.len() <= LONGEST_SAMPLE);
            self.sample.clear();
            if value.is_some() {
                self.count += 1;
                return Ok(value);
            }
            self.bad += 1;
        }
    }

    /// What was left out, for the table's warnings.
    pub fn warnings(&self) -> impl Iterator<Item = String> {
        let cut = self.cut.then(|| format!("the JSON is cut short: repaired, {} samples", self.count));
        let bad = (self.bad > 0).then(|| format!("{} samples that are not JSON were left out", self.bad));
        cut.into_iter().chain(bad)
    }
}

fn step(state: State, byte: u8) -> State {
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
        (State::Between, b'{') => State::Within { depth: 1, quoted: false, escaped: false },
        (State::Between, b']') => State::After,
        (State::Between, _) => State::Between,
        (State::Within { depth, quoted: true, escaped }, byte) => {
            State::Within { depth, quoted: escaped || byte != b'"', escaped: !escaped && byte == b'\\' }
        }
        (State::Within { depth, .. }, b'"') => State::Within { depth, quoted: true, escaped: false },
        (State::Within { depth, .. }, b'{' | b'[') => {
            State::Within { depth: depth.saturating_add(1), quoted: false, escaped: false }
        }
        (State::Within { depth: 1, .. }, b'}' | b']') => State::Between,
        (State::Within { depth, .. }, b'}' | b']') => State::Within { depth: depth - 1, quoted: false, escaped: false },
        (within @ State::Within { .. }, _) => within,
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
        assert_eq!(samples.warnings().count(), 0);
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
            prop_assert_eq!(samples.cut, at <= FILE.find("]}]}}").unwrap());
        }

        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            read(&bytes);
            read(&[b"\"statistics\": [{", &bytes[..]].concat());
        }
    }
}
